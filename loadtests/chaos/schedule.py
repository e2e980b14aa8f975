"""The list of faults of a run, all of it out of the seed: which, when, where, for how long, and what else it draws.

Faults of different domains overlap (a node is cut off while Redis is demoted and another one's clock is off), those of one
domain do not. Storms last `STORM_S`; between two of them it is calm, until everything is whole again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

STORM_S = 45.0
CALM_S = 8.0
"""About what a calm takes."""
TRIES = 40
"""To find a fault whose domain is free."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table of faults (`faults.FAULTS`): how often, for how long, and how long its domain needs afterwards."""

    weight: float
    shortest_s: float
    longest_s: float
    domain: str
    rest_s: float
    is_per_node: bool


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault of the schedule. `draw` is a seed of its own for its other choices."""

    at_s: float
    name: str
    node: int | None
    lasts_s: float
    draw: int

    def __str__(self) -> str:
        where = "" if self.node is None else f" node {self.node}"
        return f"{self.at_s:7.2f} {self.name}{where} for {self.lasts_s:.2f} s"


@dataclass(frozen=True, slots=True)
class PlannedStorm:
    """Some faults, moments counted from its beginning."""

    lasts_s: float
    faults: list[Planned]


def storms(seed: int, seconds: float, a_minute: float, nodes: int, kinds: dict[str, Kind]) -> list[PlannedStorm]:
    """As many as take about that long, each with the calm behind it."""
    chance = random.Random(seed)
    many = max(1, round(seconds / (STORM_S + CALM_S)))
    lasts_s = max(1.0, seconds / many - CALM_S)
    return [PlannedStorm(lasts_s, _faults(chance, lasts_s, a_minute, nodes, kinds)) for _ in range(many)]


def _faults(
    chance: random.Random, seconds: float, a_minute: float, nodes: int, kinds: dict[str, Kind]
) -> list[Planned]:
    names, weights = list(kinds), [kind.weight for kind in kinds.values()]
    free_at_s: dict[tuple[str, int | None], float] = {}
    faults: list[Planned] = []
    at_s = 0.0
    while (at_s := at_s + chance.uniform(0.5, 1.5) * 60 / a_minute) < seconds:
        for _ in range(TRIES):
            name = chance.choices(names, weights)[0]
            kind = kinds[name]
            node = chance.randrange(nodes) if kind.is_per_node else None
            lasts_s = chance.uniform(kind.shortest_s, kind.longest_s)
            if free_at_s.get((kind.domain, node), 0.0) <= at_s:
                free_at_s[kind.domain, node] = at_s + lasts_s + kind.rest_s
                faults.append(Planned(at_s, name, node, lasts_s, chance.getrandbits(32)))
                break
    return faults
