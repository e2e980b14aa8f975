"""A Revision names a place in a Changelog: `partition:epoch:seq`, as in `7:1f00c3a95be2d844:1042`.

`seq` is contiguous within an epoch, so a hole is visible. Another epoch is another history; Revisions of two epochs cannot be
compared. A write to several Partitions returns several Revisions, joined by commas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from gate.errors import InvalidInput

# In one `MIN` or header: a write touches at most this many Partitions.
MAX_REVISIONS = 64

_ONE = re.compile(r"(\d{1,5}):([0-9a-f]{16}):(\d{1,16})")


class Revision(NamedTuple):
    """One place in one Partition's Changelog."""

    partition: int
    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.epoch}:{self.seq}"


class Position(NamedTuple):
    """Position of a follower or of a Changelog's head. `tip` is the write id of the entry at `seq` ("" before the first)."""

    epoch: str
    seq: int
    tip: str


# Position in a Partition without history.
NOWHERE = Position("", 0, "")


def parse_revisions(text: str) -> tuple[Revision, ...]:
    """Parse `p:epoch:seq[,p:epoch:seq…]`. Raises `InvalidInput`, which shows the form of a Revision."""
    # The split is bounded; a part too many fails the length check below.
    parts = text.split(",", MAX_REVISIONS)
    matches = [_ONE.fullmatch(part) for part in parts]
    if len(parts) > MAX_REVISIONS or not all(matches):
        raise InvalidInput("revision", f"must read partition:epoch:seq as an answer gave it, got {text[:80]!r}")
    return tuple(Revision(int(m[1]), m[2], int(m[3])) for m in matches if m)


def join_revisions(revisions: Iterable[Revision]) -> str:
    """Return the text form of one or more Revisions: at most one per Partition, the newest, in order of Partition."""
    newest: dict[int, Revision] = {}
    for revision in revisions:
        known = newest.get(revision.partition)
        if known is None or revision.seq >= known.seq:
            newest[revision.partition] = revision
    return ",".join(str(newest[partition]) for partition in sorted(newest))
