"""Whether a series grows: a straight line through its second half, and how much that adds in the time of the half.

The first half is for caches and pools to fill. A bound is a share of the mean or an absolute amount, whichever is more.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import linear_regression, mean
from typing import NamedTuple

MIN_POINTS = 4


class Bound(NamedTuple):
    """How much a series may grow in half a soak."""

    share: float
    amount: float


BOUNDS = {
    "memory MB": Bound(0.05, 6.0),
    "descriptors": Bound(0.0, 4.0),
    "pages": Bound(0.10, 200.0),
    "readers": Bound(0.0, 2.0),
    "file MB": Bound(0.10, 1.0),
    "keys": Bound(0.02, 40.0),
}
"""By the first words of a series' name. Memory: what Python's allocator wavers by."""
NOT_BOUNDED = ("memory MB, Redis's streams",)


class Trend(NamedTuple):
    """How one series went."""

    name: str
    mean: float
    grown: float
    allowed: float | None
    """None: it may grow."""

    @property
    def is_flat(self) -> bool:
        return self.allowed is None or self.grown <= self.allowed


def trend(name: str, points: Sequence[tuple[float, float]]) -> Trend | None:
    """None where there is too little to say."""
    half = points[len(points) // 2 :]
    if len(half) < MIN_POINTS or half[-1][0] == half[0][0]:
        return None
    times, values = [at for at, _ in half], [value for _, value in half]
    grown = linear_regression(times, values).slope * (times[-1] - times[0])
    bound = BOUNDS[name.partition(",")[0]]
    allowed = None if name in NOT_BOUNDED else max(bound.share * mean(values), bound.amount)
    return Trend(name, mean(values), grown, allowed)
