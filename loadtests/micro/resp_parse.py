"""The cost of reading one command: raw hiredis, the fast reader, the exact reader; in nanoseconds a command.

A microsecond here is a third of the throughput, so a change to `gate.wire.resp` is judged by this table. Run it on a
quiet machine: `.venv/bin/python -m loadtests.micro.resp_parse`. Each figure is the best of several rounds, which is
the one that other programs disturbed least. The last column repeats the fast reader with ids that hold a `+`, which
costs a comparison.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import hiredis
from rich.console import Console
from rich.table import Table

from gate.wire.resp import CommandReader, StrictReader

BATCHES: Final = (1, 16, 64, 256)
ROUNDS: Final = 9
COMMANDS_A_ROUND: Final = 50_000
END: Final[list[object]] = [object()]


def main() -> None:
    table = Table(title="ns per GATE.CHECK command of three arguments")
    for heading in ("batch", "raw hiredis", "CommandReader", "overhead", "StrictReader", "CommandReader, '+' in ids"):
        table.add_column(heading, justify="right")
    for batch in BATCHES:
        chunk, plus_chunk = _chunk(batch, b"user"), _chunk(batch, b"+491")
        raw, fast = _cost_ns(_raw(), chunk, batch), _cost_ns(CommandReader().feed, chunk, batch)
        exact, plus = _cost_ns(StrictReader().feed, chunk, batch), _cost_ns(CommandReader().feed, plus_chunk, batch)
        table.add_row(str(batch), *(f"{cost:.0f}" for cost in (raw, fast, fast - raw, exact, plus)))
    Console().print(table)


def _chunk(batch: int, prefix: bytes) -> bytes:
    pair = b"*3\r\n$10\r\nGATE.CHECK\r\n$12\r\n%b%08d\r\n$12\r\n%b%08d\r\n"
    return b"".join(pair % (prefix, number * 7919, prefix, number * 104729) for number in range(batch))


def _raw() -> Callable[[bytes], list[list[bytes]]]:
    reader = hiredis.Reader(notEnoughData=END)

    def feed(chunk: bytes) -> list[list[bytes]]:
        reader.feed(chunk)
        return [*iter(reader.gets, END)]

    return feed


def _cost_ns(feed: Callable[[bytes], list[list[bytes]]], chunk: bytes, batch: int) -> float:
    assert len(feed(chunk)) == batch
    repeats = COMMANDS_A_ROUND // batch
    best_ns = float("inf")
    for _ in range(ROUNDS):
        started_ns = time.perf_counter_ns()
        for _ in range(repeats):
            feed(chunk)
        best_ns = min(best_ns, (time.perf_counter_ns() - started_ns) / repeats / batch)
    return best_ns


if __name__ == "__main__":
    main()
