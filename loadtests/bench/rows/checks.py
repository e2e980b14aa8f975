"""Checks per second and the server's CPU time a check: the same pairs to Gate's one hot worker and to what a team would use.

Before the clock starts, the answers are compared pair by pair. 50 connections; a pipeline of 1 is a router that asks once a
message. Gate without the compiled core is a node of its own on the same store, and ends with the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from loadtests.bench.bed import Bed, BedFailed
from loadtests.bench.load import Script
from loadtests.bench.pairs import Spread
from loadtests.bench.systems import System
from loadtests.bench.systems.postgres import Missing, postgres
from loadtests.bench.table import Row
from loadtests.bench.turns import Bound, compared, in_turn, judged, summary

PIPELINES = (1, 16, 64, 256)
CONNECTIONS = 50
SPREADS: tuple[Spread, ...] = ("uniform", "zipf")
BOUNDS = (
    Bound(1, "redis lua", 1.5),
    Bound(1, "sismember", 0.95),
    Bound(16, "redis lua", 6.0),
    Bound(16, "sismember", 1.0),
    Bound(64, "redis lua", 9.0),
    Bound(64, "sismember", 1.8),
    Bound(64, "ping", 0.5, "the stretch"),
)
POSTGRES_PIPELINES = (1, 16)
POSTGRES_PAIRS = 40_000
"""It takes them one by one from disk into its memory first."""
BEFORE = {"cac8922": "cac8922, which its bounds were set against", "c6d9373": "c6d9373, the last commit without one"}
LEAST_OF_BEFORE = 1.0
BEFORE_PAIRS = 100_000
BEFORE_PIPELINES = (1, 64)
CALLED = {"redis lua": "Redis Lua", "sismember": "Redis SISMEMBER", "ping": "Redis PING"}

Cells = list[dict[str, Any]]


class Disagreement(AssertionError):
    """Two systems gave different answers to the same pair."""


def measure(bed: Bed) -> list[Row]:
    """A row for each bound and set of pairs; the first one of each set has the whole grid as detail."""
    _ = bed.load_client
    with bed.without_core() as python:
        systems = [bed.gate, python, *bed.peer_systems]
        return [row for spread in SPREADS for row in _measure_spread(bed, systems, spread)]


def measure_postgres(bed: Bed) -> list[Row]:
    """One row a pipeline, without a bound: a database that holds the facts anyway."""
    _ = bed.load_client
    try:
        with postgres(bed.facts) as database:
            scripts = agreeing(bed, [bed.gate, database], "uniform", POSTGRES_PAIRS)
            loads = {pipeline: in_turn(bed, scripts, pipeline, CONNECTIONS) for pipeline in POSTGRES_PIPELINES}
    except Missing as missing:
        return [Row("postgres", "PostgreSQL", "", str(missing), None)]
    return [
        Row(
            "postgres",
            f"checks/s, uniform pairs, pipeline {pipeline}, {CONNECTIONS} connections, against a prepared query of PostgreSQL",
            "",
            compared(these, "gate", database.name),
            None,
            {name: summary(some) for name, some in these.items()},
        )
        for pipeline, these in loads.items()
    ]


def measure_before(bed: Bed) -> list[Row]:
    """For each pipeline, Gate without its compiled core against Gate as it was before there was one: a row a commit."""
    _ = bed.load_client
    try:
        with ExitStack() as stack:
            python = stack.enter_context(bed.without_core())
            before = [stack.enter_context(bed.before(commit)) for commit in BEFORE]
            scripts = agreeing(bed, [bed.gate, python, *before], "uniform", BEFORE_PAIRS)
            loads = {pipeline: in_turn(bed, scripts, pipeline, CONNECTIONS) for pipeline in BEFORE_PIPELINES}
    except BedFailed as missing:
        return [Row("before", f"Gate at {', '.join(BEFORE)}", "", str(missing), None)]
    return [
        judged(
            "before",
            f"checks/s, uniform pairs, pipeline {pipeline}, {CONNECTIONS} connections, no compiled core, against {when}",
            these,
            python.name,
            Bound(pipeline, system.name, LEAST_OF_BEFORE),
            {name: summary(some) for name, some in these.items()} | {"with core": compared(these, "gate", system.name)},
        )
        for pipeline, these in loads.items()
        for system, when in zip(before, BEFORE.values(), strict=True)
    ]


def _measure_spread(bed: Bed, systems: Sequence[System], spread: Spread) -> list[Row]:
    scripts = agreeing(bed, systems, spread)
    rows: list[Row] = []
    cells: Cells = []
    for pipeline in PIPELINES:
        loads = in_turn(bed, scripts, pipeline, CONNECTIONS)
        cell = {name: summary(these) for name, these in loads.items()}
        cells.append({"pipeline": pipeline, "connections": CONNECTIONS} | cell)
        shown = ", ".join(f"{name} {one['checks_per_s']:,}/s {one['cpu_us']:.2f} us" for name, one in cell.items())
        shares = [max(one[share] for one in cell.values()) for share in ("client_cores", "others_cores")]
        bed.say(
            f"{spread}, pipeline {pipeline}, {CONNECTIONS} connections: {shown}; "
            f"client up to {shares[0]:.2f} cores, others {shares[1]:.2f}"
        )
        for bound in BOUNDS:
            if bound.pipeline == pipeline:
                what = f"checks/s, {spread} pairs, pipeline {pipeline}, {CONNECTIONS} connections"
                rows.append(judged("checks", f"{what}, against {CALLED[bound.system]}", loads, "gate", bound))
    rows[0].detail["cells"] = cells
    return rows


def agreeing(bed: Bed, systems: Sequence[System], spread: Spread, most: int | None = None) -> dict[str, Script]:
    """What each is asked under the clock, after every pair got the same answer from all that decide."""
    scripts: dict[str, Script] = {}
    pairs = bed.pairs(spread)
    first: list[bool] | None = None
    for system in systems:
        scripts[system.name], answers = bed.prepared(system, spread, most)
        if not system.decides:
            continue
        first = answers if first is None else first
        wrong = [pair for pair, one, other in zip(pairs, first, answers, strict=False) if one is not other]
        if wrong:
            raise Disagreement(f"{system.name} differs from {systems[0].name} on {len(wrong)} pairs, as {wrong[:3]}")
    return scripts
