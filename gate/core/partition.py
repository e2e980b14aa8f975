"""Which Partition a User belongs to.

The rule can never change for a deployment that holds facts: it is part of the stored format. The records of Apps are in
Partition 0. A User's facts, lists (as owner) and Changes are all in the User's Partition, so that one script can write them.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

DEFAULT_PARTITIONS = 16
# Each Partition is one stream that every node reads.
MAX_PARTITIONS = 1_024

APPS_PARTITION = 0


def partition_of(app_key: str, user_id: bytes, partitions: int) -> int:
    """Return the User's Partition: CRC-32 of `app_key NUL user_id`, modulo. An App key holds no NUL, so this is unambiguous."""
    return crc32(user_id, crc32(app_key.encode() + b"\0")) % partitions


def partitions_of(app_key: str, user_ids: Iterable[bytes], partitions: int) -> list[int]:
    """Return the Partitions of several Users, each once, in order; see `partition_of`."""
    # CRC-32 can be continued, so the App's part is computed once.
    app = crc32(app_key.encode() + b"\0")
    return sorted({crc32(user_id, app) % partitions for user_id in user_ids})
