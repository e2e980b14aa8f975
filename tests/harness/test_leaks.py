"""The audit finds unknown keys, whatever bytes they hold."""

from __future__ import annotations

import pytest

from harness.leaks import KeyLeak, audit_keys, stranger_keys
from harness.servers import RedisServer

PATTERNS = [r"gate:\{\d+\}:ban:.+", r"gate:apps"]


def test_documented_keys_pass() -> None:
    keys = [b"gate:apps", b"gate:{3}:ban:4:u\n1", b"gate:{15}:ban:\xff\x00"]
    assert stranger_keys(keys, PATTERNS) == []


def test_strangers_are_named_and_matches_are_whole() -> None:
    keys = [b"gate:apps:2", b"xgate:apps", b"gate:apps", b"gate:{x}:ban:1"]
    assert stranger_keys(keys, PATTERNS) == [b"gate:apps:2", b"gate:{x}:ban:1", b"xgate:apps"]


def test_audit_reads_the_whole_database(private_redis: RedisServer) -> None:
    private_redis.client.mset({f"gate:{{1}}:ban:{number}": "x" for number in range(3000)})
    audit_keys(private_redis.client, PATTERNS)
    private_redis.client.set("stray", "x")
    with pytest.raises(KeyLeak, match=r"1 keys match no documented pattern: b'stray'"):
        audit_keys(private_redis.client, PATTERNS)
