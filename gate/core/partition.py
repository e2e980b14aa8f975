"""Which Partition a User belongs to.

The rule can never change for a deployment that holds facts: it is part of the stored format. Apps' own records live in
Partition 0. A User's facts, lists (as owner) and Changes all live in the User's Partition, so that one script can write them.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

DEFAULT_PARTITIONS = 16
MAX_PARTITIONS = 1_024
"""Each Partition is one stream that every node reads."""

APPS_PARTITION = 0


def partition_of(app_key: str, user_id: bytes, partitions: int) -> int:
    """The Partition of a User: CRC-32 of `app_key NUL user_id`, modulo. An App key holds no NUL, so this is unambiguous."""
    return crc32(user_id, crc32(app_key.encode() + b"\0")) % partitions


def partitions_of(app_key: str, user_ids: Iterable[bytes], partitions: int) -> list[int]:
    """The Partitions of several Users, each once, in order; see `partition_of`."""
    app = crc32(app_key.encode() + b"\0")
    return sorted({crc32(user_id, app) % partitions for user_id in user_ids})
