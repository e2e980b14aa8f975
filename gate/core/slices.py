"""The slice of a User in its App's Presence, and how an App's Presence grows to more slices.

    bucket of a User   CRC-32 of its id, multiplied to break its linearity; the same for every number of slices. A costlier hash
                       would take a tenth of the time of a connect in this process
    slice of a bucket  by a table for each number of slices. A new slice takes its buckets from the slices that have most, so
                       slices differ by at most one bucket, and growth moves Users only from old slices to new ones
    word               stored in each slice and by each caller: `8`, or `1>8` while Users move from 1 slice to 8

The rule is part of the stored format: it can never change for a deployment with sliced Presence. Pure. Called by
`gate.store.slicing` and by the code that moves Users.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

MAX_SLICES = 64
# With 64 slices each has 64 buckets: the largest and the smallest differ by 1.6 %.
BUCKETS = 4_096

# Knuth's multiplier; the upper bits of a product by it depend on all bits of the factor.
_SPREAD = 0x9E3779B1
_BUCKET_SHIFT = 32 - 12
_WORDS = [str(slices) for slices in range(MAX_SLICES + 1)]
_WORD = re.compile(r"(?:([1-9]\d?)>)?([1-9]\d?)")


class Slicing(NamedTuple):
    """How an App's Presence is sliced. While Users move, `before` is the number of slices that they move from, else 0."""

    slices: int
    before: int = 0

    @property
    def word(self) -> str:
        """The text form, as slices and callers store it."""
        return f"{self.before}>{self.slices}" if self.before else _WORDS[self.slices]

    def place(self, user: bytes) -> int:
        """Return the User's slice once nothing moves."""
        return 0 if self.slices == 1 else _table(self.slices)[bucket_of(user)]

    def origin(self, user: bytes) -> int:
        """Return the slice from which the User moves, or its `place` if it does not move."""
        if not self.before:
            return self.place(user)
        return 0 if self.before == 1 else _table(self.before)[bucket_of(user)]


UNSLICED = Slicing(1)


def slicing_of(word: str) -> Slicing:
    """Parse the text form. Raises `ValueError` for one that this version does not know."""
    match = _WORD.fullmatch(word)
    if match is None or not 1 <= int(match[2]) <= MAX_SLICES:
        raise ValueError(f"Presence is sliced as {word[:20]!r}, which this version does not understand")
    return Slicing(int(match[2]), int(match[1] or 0))


def bucket_of(user: bytes) -> int:
    """Return the User's bucket."""
    # CRC-32 is linear: ids that differ in few bits share upper bits without the multiplication.
    return (crc32(user) * _SPREAD & 0xFFFFFFFF) >> _BUCKET_SHIFT


@lru_cache(maxsize=MAX_SLICES)
def _table(slices: int) -> Sequence[int]:
    """Return the slice of each bucket. The last bucket of the fullest slice moves first; between equals, the lowest slice's."""
    if slices == 1:
        return [0] * BUCKETS
    table = list(_table(slices - 1))
    held = [[bucket for bucket in range(BUCKETS) if table[bucket] == at] for at in range(slices - 1)]
    for _ in range(BUCKETS // slices):
        fullest = max(held, key=len)
        table[fullest.pop()] = slices - 1
    return table
