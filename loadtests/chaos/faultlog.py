"""The faults of a run with their times. They excuse late answers, settle open writes, and are printed with a violation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

LANDS_WITHIN_S = 2.5
"""After everything is whole a write that is on its way lands or fails within its deadlines, about a second each."""
KEEP_S = 120.0
HOLDING = (
    "role paused", "node paused", "cable frozen", "cable slow", "Redis hangs", "Redis slow", "Redis killed, slow",
    "Redis demoted", "Redis split", "Redis failed over", "Redis primary", "Redis failover", "Redis two", "Redis slots",
    "Redis replica", "Redis master", "Sentinel",
)  # fmt: skip
"""Beginnings of the names of faults that keep a write in flight. Other faults lose it, or let it pass."""


@dataclass(slots=True, eq=False)
class Fault:
    """One fault. `node` is None where it concerns all of them."""

    name: str
    node: int | None
    began_s: float
    ended_s: float = math.inf
    detail: str = ""

    @property
    def is_over(self) -> bool:
        return self.ended_s < math.inf

    def overlaps(self, from_s: float, to_s: float) -> bool:
        return self.began_s <= to_s and self.ended_s >= from_s

    def concerns(self, node: int) -> bool:
        return self.node is None or self.node == node

    def text(self, origin_s: float) -> str:
        lasted = f"{self.ended_s - self.began_s:.2f} s" if self.is_over else "going on"
        where = "" if self.node is None else f" node {self.node}"
        return f"{self.began_s - origin_s:8.3f} {self.name}{where} {self.detail} ({lasted})".replace("  (", " (")


@dataclass
class FaultLog:
    """All of a run."""

    origin_s: float
    faults: list[Fault] = field(default_factory=list)

    def begin(self, name: str, node: int | None, now_s: float, detail: str = "") -> Fault:
        fault = Fault(name, node, now_s, detail=detail)
        self.faults.append(fault)
        return fault

    def active(self, node: int, from_s: float, to_s: float) -> list[Fault]:
        """Those that concern the node and overlap that time."""
        return [one for one in self._recent(from_s) if one.concerns(node) and one.overlaps(from_s, to_s)]

    def nothing_holds_since(self, node: int, began_s: float, answered_s: float, now_s: float) -> bool:
        """Whether a write of that time must have landed or failed by now."""
        horizon_s = answered_s + LANDS_WITHIN_S
        for fault in sorted(self._recent(began_s), key=lambda one: one.began_s):
            if fault.name.startswith(HOLDING) and fault.concerns(node) and fault.overlaps(began_s, horizon_s):
                horizon_s = max(horizon_s, fault.ended_s + LANDS_WITHIN_S)
        return now_s > horizon_s

    def around(self, moment_s: float, window_s: float = 15.0) -> list[str]:
        """The faults shortly before, as text."""
        return [one.text(self.origin_s) for one in self.faults if one.overlaps(moment_s - window_s, moment_s)]

    def _recent(self, from_s: float) -> list[Fault]:
        found = []
        for one in reversed(self.faults):
            if one.ended_s >= from_s:
                found.append(one)
            if one.began_s < from_s - KEEP_S:
                break
        return found
