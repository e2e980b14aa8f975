"""A program that embeds `gate.Replica`, as a process of its own: `python -m loadtests.chaos.replica_process`.

Its orders are one line of JSON on stdin; it prints a line of JSON for each batch of verdicts. It is a process of its own,
because a file that is cut short under a memory map kills each process that reads it, and because an embedded Replica goes on
while its node is dead.
The age is the greater one of those before and after the verdicts.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from gate import Replica
from gate.errors import GateError

OPEN_AGAIN_S = 0.1


def main() -> None:
    """Ask until the pipe breaks."""
    orders = json.loads(sys.stdin.readline())
    pairs: list[tuple[str, str]] = [tuple(pair) for pair in orders["pairs"]]
    chance = random.Random(orders["seed"])
    replica: Replica | None = None
    while True:
        time.sleep(orders["every_s"])
        try:
            if replica is None:
                replica = Replica.open(Path(orders["data"]), app=orders["app"])
            line = _batch(replica, pairs, chance, orders["batch"])
        except GateError as fault:
            line = json.dumps({"error": type(fault).__name__})
            if replica is None:
                time.sleep(OPEN_AGAIN_S)
        try:
            print(line, flush=True)
        except BrokenPipeError:
            return


def _batch(replica: Replica, pairs: list[tuple[str, str]], chance: random.Random, size: int) -> str:
    chosen = [chance.randrange(len(pairs)) for _ in range(size)]
    began_s = time.monotonic()
    before_ms = replica.status.stale_ms
    verdicts = [replica.verdict(*pairs[index]) for index in chosen]
    after_ms = replica.status.stale_ms
    said = [[index, verdict.word, verdict.until_ms] for index, verdict in zip(chosen, verdicts, strict=True)]
    return json.dumps({"said": said, "from": began_s, "to": time.monotonic(), "stale": max(before_ms, after_ms)})


if __name__ == "__main__":
    main()
