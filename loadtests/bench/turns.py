"""Systems in turn within each round, so that noise on the machine hits all alike; and how two of them compare.

A ratio is taken in each round, of what ran seconds apart; reported are the median of the rounds, the least and the most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from loadtests.bench.bed import Bed
from loadtests.bench.load import Load, Script, run
from loadtests.bench.table import Row

Loads = dict[str, list[Load]]
"""Of each system, by its name, one a round."""


class Ratio(NamedTuple):
    """Ours to theirs, over the rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.median:.2f} x"
        return f"{self.median:.2f} x ({self.least:.2f} to {self.most:.2f})"


class Bound(NamedTuple):
    """What Gate's rate must be, against another system's at one pipeline."""

    pipeline: int
    system: str
    least: float
    note: str = ""


def in_turn(bed: Bed, scripts: Mapping[str, Script], pipeline: int, connections: int) -> Loads:
    """Closed loops."""
    loads: Loads = {name: [] for name in scripts}
    for _ in range(bed.options.rounds):
        for name, script in scripts.items():
            loads[name].append(run(bed.load_client, script, pipeline, connections, bed.options.seconds))
    return loads


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Round by round."""
    each = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Ratio(median(each), min(each), max(each))


def rate_ratio(loads: Loads, ours: str, theirs: str) -> Ratio:
    return ratio([load.per_s for load in loads[ours]], [load.per_s for load in loads[theirs]])


def cpu_ratio(loads: Loads, ours: str, theirs: str) -> Ratio:
    """Of the server's CPU time a check. Infinite where the other used too little to count."""
    return ratio([load.server_us for load in loads[ours]], [load.server_us or 1e-9 for load in loads[theirs]])


def compared(loads: Loads, ours: str, theirs: str) -> str:
    """Rates and CPU time of two systems, in words."""
    rates, used = ([median(pick(load) for load in loads[name]) for name in (ours, theirs)] for pick in (_rate, _cpu))
    return (
        f"{rate_ratio(loads, ours, theirs)}, {rates[0]:,.0f} to {rates[1]:,.0f}; "
        f"server CPU {cpu_ratio(loads, ours, theirs)}, {used[0]:.2f} to {used[1]:.2f} us"
    )


def judged(row: str, what: str, loads: Loads, ours: str, bound: Bound, detail: dict[str, Any] | None = None) -> Row:
    """The row of a bound."""
    target = f">= {bound.least:g} x{f' ({bound.note})' if bound.note else ''}"
    is_met = rate_ratio(loads, ours, bound.system).median >= bound.least
    return Row(row, what, target, compared(loads, ours, bound.system), is_met, detail or {})


def summary(loads: Sequence[Load]) -> dict[str, Any]:
    """Medians of the rounds, and the rounds themselves as far as ratios need them."""
    return {
        "checks_per_s": round(median(map(_rate, loads))),
        "least_per_s": round(min(map(_rate, loads))),
        "most_per_s": round(max(map(_rate, loads))),
        "cpu_us": round(median(map(_cpu, loads)), 3),
        "p50_us": round(median(load.p50_us for load in loads), 1),
        "p99_us": round(median(load.p99_us for load in loads), 1),
        "client_cores": round(median(load.client for load in loads), 2),
        "others_cores": round(median(load.others for load in loads), 2),
        "rounds_per_s": " ".join(f"{load.per_s:.0f}" for load in loads),
        "rounds_cpu_us": " ".join(f"{load.server_us:.3f}" for load in loads),
    }


def _rate(load: Load) -> float:
    return load.per_s


def _cpu(load: Load) -> float:
    return load.server_us
