"""The round trip of one check on one connection, against Redis' own `PING`: the cost for a router that asks each message."""

from __future__ import annotations

from statistics import median

from loadtests.bench.bed import Bed
from loadtests.bench.table import Row
from loadtests.bench.turns import compared, in_turn, ratio

MOST_RATIO = 1.05
PAIRS = 5_000


def measure(bed: Bed) -> list[Row]:
    """One row."""
    scripts = {system.name: bed.prepared(system, "uniform", PAIRS)[0] for system in (bed.gate, bed.ping)}
    loads = in_turn(bed, scripts, pipeline=1, connections=1)
    check_us, ping_us = ([load.p50_us for load in loads[name]] for name in scripts)
    trips = ratio(check_us, ping_us)
    return [
        Row(
            "roundtrip",
            "round trip p50, pipeline 1, one connection, against Redis PING",
            f"<= {MOST_RATIO} x",
            f"{trips} ({median(check_us):.1f} us to {median(ping_us):.1f} us)",
            trips.median <= MOST_RATIO,
            {
                "rates": compared(loads, *scripts),
                "gate_p99_us": median(load.p99_us for load in loads[bed.gate.name]),
                "ping_p99_us": median(load.p99_us for load in loads[bed.ping.name]),
            },
        )
    ]
