"""Replication lag, and a reconnect storm, at sizes that no machine here has: computed from the unit costs, step by step.

**Lag.** A replicator reads what has come, applies it in one commit, and reads again. A round takes `READ_MS`, a fixed part and
a part for each Change; both parts are of the measured CPU times, as if the core were its own. Writes come at a steady rate with
bursts of `BURST_TIMES` that rate: drawn from a seed, about one in `BURST_EVERY_S`, `BURST_S` long on average.

**Storm.** All Users who are online lose their connection at once, and each connects again at a moment spread evenly over some
seconds. A slice serves connects in order, at `BUSY` of a core. A connect that would wait longer than `PATIENCE_S` is refused
(`UNAVAILABLE`), and comes again after a wait that doubles from `RETRY_S` to `MOST_RETRY_S`, drawn evenly from zero to it. Users
are a fluid here, not one by one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from statistics import quantiles
from typing import NamedTuple

from loadtests.plan.costs import Costs
from loadtests.plan.sizing import BUSY, MICRO

SEED = 20_041_015
READ_MS = 0.5
CHANGES_A_READ = 16_000
"""A thousand of each of 16 Partitions."""
SECONDS = 120.0
MOST_BUSY = 0.97
BURST_EVERY_S, BURST_S, BURST_TIMES = 30.0, 1.0, 3.0
STEP_S = 0.25
PATIENCE_S, RETRY_S, MOST_RETRY_S = 1.0, 1.0, 30.0
STORM_ENDS_S = 1_800.0
BACK_SHARE = 0.999
POINTS = 240

Points = list[tuple[float, float]]


class Lag(NamedTuple):
    """How old the oldest Change of each commit was."""

    writes: float
    busy: float
    """Share of the replicator's core."""
    p50_ms: float
    p99_ms: float
    worst_ms: float
    points: Points

    @property
    def falls_behind(self) -> bool:
        """Writes come faster than they are applied, or nearly so."""
        return self.busy > MOST_BUSY


class _Piece(NamedTuple):
    """Changes that came evenly in that time."""

    from_s: float
    to_s: float
    changes: float


class Absence(NamedTuple):
    """A node that comes back after a time."""

    away_s: float
    caught_up_s: float | None
    """None: never, since writes come faster than they are applied."""
    points: Points


class Storm(NamedTuple):
    """Everyone comes back."""

    slices: int
    spread_s: float
    back_s: float | None
    refused: float
    """Attempts that were refused, for each User."""
    points: Points


def lag_of(writes: float, costs: Costs, seed: int = SEED) -> Lag:
    """With a replicator that has its own core."""
    fixed_s, each_s = _of_a_commit(costs)
    rate = _Bursts(writes, seed)
    waiting = deque[_Piece]()
    read_s, now_s, busy_s = 0.0, 0.0, 0.0
    lags_ms: list[float] = []
    points: Points = []
    while now_s < SECONDS:
        if came := rate.between(read_s, now_s):
            waiting.append(_Piece(read_s, now_s, came))
        oldest_s = waiting[0].from_s if waiting else now_s
        taken = _take(waiting, CHANGES_A_READ)
        took_s = READ_MS / 1e3 + (fixed_s + each_s * taken if taken else 0.0)
        read_s, now_s = now_s, now_s + took_s
        busy_s += took_s - READ_MS / 1e3
        points.append((now_s, 1e3 * (now_s - oldest_s)))
        # as often as a look at every millisecond would see it: a commit that takes long is one that many wait for
        lags_ms += [points[-1][1]] * max(1, round(1e3 * took_s))
    cuts = quantiles(lags_ms, n=100)
    return Lag(writes, busy_s / SECONDS, cuts[49], cuts[98], max(lags_ms), _thinned(points))


def absence_of(writes: float, away_s: float, costs: Costs) -> Absence:
    """A node that reads nothing for a time; its Changes are assumed to be in the Changelog still."""
    fixed_s, each_s = _of_a_commit(costs)
    now_s, waiting = away_s, writes * away_s
    points: Points = [(0.0, 0.0), (now_s, waiting)]
    while waiting > 2 * writes * READ_MS / 1e3 + 1:
        taken = min(waiting, CHANGES_A_READ)
        took_s = READ_MS / 1e3 + fixed_s + each_s * taken
        waiting += writes * took_s - taken
        now_s += took_s
        points.append((now_s, waiting))
        if now_s > away_s + STORM_ENDS_S:
            return Absence(away_s, None, _thinned(points))
        if taken < CHANGES_A_READ and waiting <= writes * took_s:
            break  # each read brings what came during the last one: it is in step
    return Absence(away_s, now_s - away_s, _thinned(points))


def storm_of(online: float, slices: int, spread_s: float, costs: Costs) -> Storm:
    """How long until all are back."""
    carried = slices * BUSY / (costs["connect_cpu"] * MICRO) * STEP_S
    steps = int(STORM_ENDS_S / STEP_S)
    most_wait = int(MOST_RETRY_S / STEP_S)
    attempts = 1 + max(1, int(MOST_RETRY_S / RETRY_S).bit_length())
    # coming[step % ring][attempt]: who arrives then
    coming = [[0.0] * attempts for _ in range(most_wait + 1)]
    arriving = max(1, round(spread_s / STEP_S))
    waiting, back, refused = 0.0, 0.0, 0.0
    points: Points = []
    for step in range(steps):
        slot = coming[step % len(coming)]
        if step < arriving:
            slot[0] += online / arriving
        room = max(0.0, carried * PATIENCE_S / STEP_S - waiting)
        asked = sum(slot)
        taken = min(asked, room + carried)
        turned_away = asked - taken
        refused += turned_away
        for attempt, many in enumerate(slot):
            if turned_away and many:
                _retry(coming, step, attempt, many * turned_away / asked)
        coming[step % len(coming)] = [0.0] * attempts
        waiting += taken
        served = min(waiting, carried)
        waiting -= served
        back += served
        points.append((step * STEP_S, back))
        if back >= BACK_SHARE * online:
            return Storm(slices, spread_s, (step + 1) * STEP_S, refused / online, _thinned(points))
    return Storm(slices, spread_s, None, refused / online, _thinned(points))


def _retry(coming: list[list[float]], step: int, attempt: int, many: float) -> None:
    wait_steps = min(len(coming) - 1, int(RETRY_S * 2**attempt / STEP_S))
    following = min(attempt + 1, len(coming[0]) - 1)
    for later in range(1, wait_steps + 1):
        coming[(step + later) % len(coming)][following] += many / wait_steps


def _take(waiting: deque[_Piece], most: float) -> float:
    """Take the oldest, up to so many; how many those are."""
    taken = 0.0
    while waiting and taken < most:
        piece = waiting.popleft()
        if piece.changes > most - taken:
            share = (most - taken) / piece.changes
            cut_s = piece.from_s + share * (piece.to_s - piece.from_s)
            waiting.appendleft(_Piece(cut_s, piece.to_s, piece.changes * (1 - share)))
            return most
        taken += piece.changes
    return taken


def _of_a_commit(costs: Costs) -> tuple[float, float]:
    """Seconds of a round: its fixed part, and the part of each Change."""
    each_us = costs["backlog_cpu"]
    fixed_us = costs["batch"] * max(0.0, costs["change_cpu"] - each_us)
    return fixed_us * MICRO, each_us * MICRO


class _Bursts:
    """The rate of writes over time."""

    def __init__(self, writes: float, seed: int) -> None:
        drawn = random.Random(seed)
        self._writes = writes
        self._bursts: list[tuple[float, float]] = []
        at_s = drawn.expovariate(1 / BURST_EVERY_S)
        while at_s < SECONDS:
            ends_s = at_s + drawn.expovariate(1 / BURST_S)
            self._bursts.append((at_s, ends_s))
            at_s = ends_s + drawn.expovariate(1 / BURST_EVERY_S)

    def between(self, from_s: float, to_s: float) -> float:
        """Writes in that time."""
        within = sum(max(0.0, min(to_s, b) - max(from_s, a)) for a, b in self._bursts)
        return self._writes * (to_s - from_s + (BURST_TIMES - 1) * within)


def _thinned(points: Sequence[tuple[float, float]]) -> Points:
    """The highest of each piece, so that a line of a plot has few points and loses no peak."""
    piece = max(1, len(points) // POINTS)
    return [max(points[at : at + piece], key=lambda point: point[1]) for at in range(0, len(points), piece)]
