"""Checks inside one process: `gate.Replica`, and the libraries that hold rules in memory, as far as those get.

`Replica.may_send` runs in a fresh process (`loadtests.micro.may_send`), as a router would have it. casbin and cedarpy get
Blacklists of growing size until one check takes longer than `SLOWEST_CHECK_S` or holding the facts takes longer than
`SLOWEST_LOAD_S`: where that happens is part of the answer.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from loadtests.bench.bed import Bed
from loadtests.bench.facts import FactSet
from loadtests.bench.pairs import make_pairs
from loadtests.bench.systems import casbin_peer, cedar_peer
from loadtests.bench.table import Row

MOST_HOT_US, MOST_UNIFORM_US = 0.3, 1.0
SCALES = (0.001, 0.01, 0.1, 1.0)
SLOWEST_CHECK_S = 0.1
SLOWEST_LOAD_S = 20.0
MOST_CHECKS = 2_000
CHECKING_S = 2.0

Check = Callable[[bytes, bytes], bool]


class Held(NamedTuple):
    """How a library did with facts of one size."""

    edges: int
    load_s: float
    check_us: float


class Growth(NamedTuple):
    """Every size that was tried, and whether time ended the series."""

    held: list[Held]
    is_exhausted: bool


def measure_may_send(bed: Bed) -> list[Row]:
    """Two rows: a hot set, and pairs over all Users."""
    rounds = [_may_send(bed) for _ in range(bed.options.rounds)]
    bed.may_send_us = median(one["uniform"] for one in rounds)
    return [
        _may_send_row(rounds, "hot", f"Replica.may_send in-process, hot, {bed.edges:,} edges", MOST_HOT_US),
        _may_send_row(rounds, "uniform", f"Replica.may_send in-process, uniform, {bed.edges:,} edges", MOST_UNIFORM_US),
    ]


def _may_send_row(rounds: list[dict[str, float]], figure: str, what: str, most_us: float) -> Row:
    measured = median(one[figure] for one in rounds)
    detail = {name: round(median(one[name] for one in rounds), 3) for name in rounds[0]}
    return Row("may-send", what, f"<= {most_us} us", f"{measured:.2f} us", measured <= most_us, detail)


def _may_send(bed: Bed) -> dict[str, float]:
    command = [sys.executable, "-m", "loadtests.micro.may_send", str(bed.node.data), bed.node.credentials.app_key]
    done = subprocess.run([*command, str(bed.facts.users)], capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure_casbin(bed: Bed) -> list[Row]:
    """One row, without a bound."""
    return [_row(bed, "casbin", "checks/s in-process; its matcher looks at every rule", _grow(bed, casbin_peer.load))]


def measure_cedar(bed: Bed) -> list[Row]:
    """One row, without a bound."""
    growth = _grow(bed, cedar_peer.load)
    return [
        _row(bed, "cedarpy", "checks/s in-process, prepared policies and entities; no ends of list entries", growth)
    ]


def _grow(bed: Bed, load: Callable[[FactSet], Check]) -> Growth:
    held: list[Held] = []
    for scale in SCALES:
        if scale > max(bed.options.scale, SCALES[0]):
            break
        facts = FactSet(scale)
        started = time.perf_counter()
        check = load(facts)
        load_s = time.perf_counter() - started
        held.append(Held(facts.edges(), load_s, _check_us(check, facts)))
        bed.say(f"{load.__module__}: {held[-1]}")
        if load_s * 10 > SLOWEST_LOAD_S or held[-1].check_us * 10 > SLOWEST_CHECK_S * 1e6:
            return Growth(held, is_exhausted=True)
    return Growth(held, is_exhausted=False)


def _check_us(check: Check, facts: FactSet) -> float:
    pairs = make_pairs("uniform", facts.users, MOST_CHECKS)
    started = time.perf_counter()
    done = 0
    for pair in pairs:
        check(*pair)
        done += 1
        if time.perf_counter() - started > CHECKING_S:
            break
    return (time.perf_counter() - started) / done * 1e6


def _row(bed: Bed, name: str, what: str, growth: Growth) -> Row:
    last = growth.held[-1]
    measured = f"{1e6 / last.check_us:,.0f} at {last.edges:,} edges (loaded in {last.load_s:.1f} s)"
    if growth.is_exhausted:
        measured += "; ten times as many would pass the time limits"
    if bed.may_send_us:
        measured += f"; Replica.may_send over {bed.edges:,} edges {last.check_us / bed.may_send_us:,.0f} x as fast"
    detail: dict[str, Any] = {"sizes": [one._asdict() for one in growth.held]}
    return Row(name, f"{name}: {what}", "", measured, None, detail)
