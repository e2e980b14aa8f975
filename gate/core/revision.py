"""Places in a Changelog: the Partition of a User, a Revision, a Position.

A Revision names a place: `partition:epoch:seq`, as in `7:1f00c3a95be2d844:1042`.

`seq` is contiguous within an epoch, so a hole is visible. Another epoch is another history; Revisions of two epochs cannot be
compared. A write to several Partitions returns several Revisions, joined by commas.

Which Partition a User belongs to can never change for a deployment that holds facts: it is part of the stored format. The
records of Apps are in Partition 0. A User's facts, lists (as owner) and Changes are all in the User's Partition, so that one
script can write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

from gate.errors import InvalidInput

DEFAULT_PARTITIONS = 16
# Each Partition is one stream that every node reads.
MAX_PARTITIONS = 1_024

APPS_PARTITION = 0

# In one `MIN` or header: a write touches at most this many Partitions.
MAX_REVISIONS = 64

REVISION_FORM = "%d:%s:%d"
_ONE = re.compile(r"(\d{1,5}):([0-9a-f]{16}):(\d{1,16})")


@lru_cache(maxsize=4_096)
def app_crc(app_key: str) -> int:
    """Return the CRC-32 of `app_key NUL`, which that of each User continues: unambiguous, as an App key holds no NUL."""
    return crc32(app_key.encode() + b"\0")


def partition_of(app_key: str, user_id: bytes, partitions: int) -> int:
    """Return the User's Partition: CRC-32 of `app_key NUL user_id`, modulo."""
    return crc32(user_id, app_crc(app_key)) % partitions


def partitions_of(app_key: str, user_ids: Iterable[bytes], partitions: int) -> list[int]:
    """Return the Partitions of several Users, each once, in order; see `partition_of`."""
    app = app_crc(app_key)
    return sorted({crc32(user_id, app) % partitions for user_id in user_ids})


class Revision(NamedTuple):
    """One place in one Partition's Changelog."""

    partition: int
    epoch: str
    seq: int

    def __str__(self) -> str:
        return REVISION_FORM % self


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
