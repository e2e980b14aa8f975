"""After each test: every key in its Redis is one that the store documents.

A key outside `gate.store.keys.PATTERNS` is a leak or an undocumented name; either fails the test that left it.
Called by the Redis fixtures of `tests/conftest.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import redis

# Enough to see the pattern of the leak, short enough to read.
MAX_STRANGERS_NAMED = 10


class KeyLeak(AssertionError):
    """Keys that no documented pattern matches."""

    def __init__(self, strangers: Sequence[bytes]) -> None:
        named = ", ".join(repr(key) for key in strangers[:MAX_STRANGERS_NAMED])
        super().__init__(f"{len(strangers)} keys match no documented pattern: {named}")


def stranger_keys(keys: Iterable[bytes], patterns: Sequence[str]) -> list[bytes]:
    """The keys that none of `patterns` matches from end to end, sorted. Ids in keys may be any bytes, newlines too."""
    allowed = [re.compile(pattern.encode(), re.DOTALL) for pattern in patterns]
    return sorted(key for key in keys if not any(one.fullmatch(key) for one in allowed))


def audit_keys(client: redis.Redis | redis.RedisCluster, patterns: Sequence[str]) -> None:
    """Raises KeyLeak if the database of `client` holds a key that no pattern matches. Costs one SCAN of it."""
    if strangers := stranger_keys(client.scan_iter(count=1000), patterns):
        raise KeyLeak(strangers)
