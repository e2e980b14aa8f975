"""Checks per second: the same pairs to Gate's one hot worker, to the Lua script, and as plain commands.

Systems take turns, so that noise on the machine hits all alike; before the clock starts, their answers are compared pair by
pair. The headline is pipeline 64 on 50 connections.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from loadtests.bench.bed import Bed
from loadtests.bench.client import Batch, Rate, run
from loadtests.bench.pairs import Pair, Spread
from loadtests.bench.systems import System, encoded, prepare
from loadtests.bench.table import Row

PIPELINES = (1, 16, 64, 256)
CONNECTIONS = (1, 50)
HEADLINE = (64, 50)
LEAST_RATIO: dict[Spread, float] = {"uniform": 2.0, "zipf": 2.5}

Cells = list[dict[str, Any]]


class Disagreement(AssertionError):
    """Two systems gave different answers to the same pair."""


def measure(bed: Bed) -> list[Row]:
    """Two rows, one a set of pairs, each with the whole grid as detail."""
    return [_measure_spread(bed, spread) for spread in ("uniform", "zipf")]


def _measure_spread(bed: Bed, spread: Spread) -> Row:
    systems: list[System] = [bed.gate, bed.lua, bed.plain]
    requests = {system.name: encoded(system, bed.pairs(spread)) for system in systems}
    cells: Cells = []
    for pipeline in PIPELINES:
        batches = _agreeing(systems, bed.pairs(spread), requests, pipeline)
        for connections in CONNECTIONS:
            rates = _rounds(bed, systems, batches, connections)
            cell = {name: _summary(these) for name, these in rates.items()}
            cells.append({"pipeline": pipeline, "connections": connections} | cell)
            shown = ", ".join(f"{name} {cell[name]['checks_per_s']:,}/s" for name in cell)
            bed.say(f"{spread}, pipeline {pipeline}, {connections} connections: {shown}")
    headline = next(cell for cell in cells if (cell["pipeline"], cell["connections"]) == HEADLINE)
    gate, lua = headline["gate"]["checks_per_s"], headline["redis lua"]["checks_per_s"]
    least = LEAST_RATIO[spread]
    return Row(
        "checks",
        f"checks/s, {spread} pairs, pipeline 64, 50 connections, against Redis Lua",
        f">= {least} x",
        f"{gate / lua:.2f} x ({gate:,} to {lua:,})",
        gate / lua >= least,
        {"cells": cells},
    )


def _agreeing(
    systems: list[System], pairs: list[Pair], requests: dict[str, list[bytes]], pipeline: int
) -> dict[str, list[Batch]]:
    """Every system's buffers, after every pair got the same answer from all."""
    batches: dict[str, list[Batch]] = {}
    first: list[bool] | None = None
    for system in systems:
        batches[system.name], answers = prepare(system, requests[system.name], pipeline)
        first = answers if first is None else first
        if answers != first:
            wrong = [pair for pair, one, other in zip(pairs, first, answers, strict=False) if one is not other]
            raise Disagreement(f"{system.name} differs from {systems[0].name} on {len(wrong)} pairs, as {wrong[:3]}")
    return batches


def _rounds(
    bed: Bed, systems: list[System], batches: dict[str, list[Batch]], connections: int
) -> dict[str, list[Rate]]:
    rates: dict[str, list[Rate]] = {system.name: [] for system in systems}
    for _ in range(bed.options.rounds):
        for system in systems:
            rates[system.name].append(run(system.connect, batches[system.name], connections, bed.options.seconds))
    return rates


def _summary(rates: list[Rate]) -> dict[str, int]:
    return {
        "checks_per_s": round(median(rate.checks_per_s for rate in rates)),
        "p50_us": round(median(rate.p50_us for rate in rates)),
        "p99_us": round(median(rate.p99_us for rate in rates)),
    }
