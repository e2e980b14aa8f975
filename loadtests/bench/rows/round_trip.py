"""One check there and back on one connection, against Redis' own `PING`: what a router pays that asks message by message."""

from __future__ import annotations

from statistics import median

from loadtests.bench.bed import Bed
from loadtests.bench.client import Batch, run
from loadtests.bench.systems import encoded, prepare
from loadtests.bench.table import Row

MOST_RATIO = 1.25
PAIRS = 5_000
PING = Batch(b"*1\r\n$4\r\nPING\r\n", len(b"+PONG\r\n"), 1)


def measure(bed: Bed) -> list[Row]:
    """One row."""
    batches, _ = prepare(bed.gate, encoded(bed.gate, bed.pairs("uniform")[:PAIRS]), 1)
    check_us, ping_us, check_p99_us, ping_p99_us = [], [], [], []
    for _ in range(bed.options.rounds):
        check = run(bed.gate.connect, batches, 1, bed.options.seconds)
        ping = run(bed.lua.connect, [PING], 1, bed.options.seconds)
        check_us.append(check.p50_us)
        check_p99_us.append(check.p99_us)
        ping_us.append(ping.p50_us)
        ping_p99_us.append(ping.p99_us)
    ours, theirs = median(check_us), median(ping_us)
    return [
        Row(
            "roundtrip",
            "round trip p50, pipeline 1, one connection, against Redis PING",
            f"<= {MOST_RATIO} x",
            f"{ours / theirs:.2f} x ({ours:.1f} us to {theirs:.1f} us)",
            ours / theirs <= MOST_RATIO,
            {"gate_p99_us": median(check_p99_us), "ping_p99_us": median(ping_p99_us)},
        )
    ]
