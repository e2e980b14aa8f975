"""The least rights in Redis: they suffice, each is necessary, and each missing one is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gate
from gate.errors import StoreUnavailable
from gate.store import scripts
from gate.store.address import parse_address
from gate.store.cluster import client_of
from gate.store.rights import ALL, FACTS, PRESENCE, missing_rights, require_rights
from gate.store.store import Store
from harness.servers import RedisServer
from tests.store.acl import change_user, denied, documented_words, make_user
from tests.store.conftest import PATIENCE_MS
from tests.store.touring import tour

CALLED = re.compile(r"(?:redis\.p?call|call_with)\('([A-Z]+)'")


@pytest.fixture
def user_url(each_redis: RedisServer) -> Iterator[str]:
    yield make_user(each_redis)
    each_redis.client.execute_command("ACL", "DELUSER", "gate")
    each_redis.client.execute_command("ACL", "LOG", "RESET")


def test_the_documented_line_is_what_is_tried() -> None:
    rules = {word for word in documented_words()[1:] if word[0] in "+~&"}
    assert rules == ALL.rights


def test_every_command_of_a_script_is_tried() -> None:
    for script in scripts.ALL:
        needs = PRESENCE if script.name.startswith("presence_") else FACTS
        assert {name.lower() for name in CALLED.findall(script.source)} - needs.commands == set(), script.name


def test_no_right_is_for_nothing() -> None:
    in_scripts = {name.lower() for script in scripts.ALL for name in CALLED.findall(script.source)}
    named = re.compile(r"'(Z[A-Z]+|X[A-Z]+)'")  # zset_page selects one of two
    in_scripts |= {name.lower() for script in scripts.ALL for name in named.findall(script.source)}
    folder = Path(gate.__file__).parent
    sent = {
        name.lower()
        for path in folder.rglob("*.py")
        if path.name != "rights.py"
        for name in re.findall(r"\(\s*\"([A-Z]{3,})\"", path.read_text())
    }
    assert ALL.commands - in_scripts - sent == set()


async def test_they_suffice_for_every_operation(user_url: str, each_redis: RedisServer) -> None:
    store = await Store.connect(user_url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS, tries_rights=True)
    await tour(store)
    await store.aclose()
    assert denied(each_redis) == set()


async def test_each_right_that_is_missing_is_named(user_url: str, each_redis: RedisServer) -> None:
    client = client_of(parse_address(user_url), PATIENCE_MS, PATIENCE_MS)
    assert await missing_rights(client, ALL) == []
    for right in sorted(ALL.rights):
        if right[0] == "+":
            change_user(each_redis, f"-{right[1:]}")
        else:
            change_user(each_redis, "resetkeys" if right[0] == "~" else "resetchannels")
        with pytest.raises(StoreUnavailable) as refused:
            await require_rights(client, ALL)
        assert f"grant it with ACL SETUSER gate {right}" in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1
        change_user(each_redis, right)
    await client.aclose()
    assert await _missing(user_url) == []


@pytest.mark.parametrize("narrow", ["~gate:{0}:*", "~gate:{*", "~gate:registry", "~other:*"])
async def test_a_key_pattern_that_is_too_narrow(user_url: str, each_redis: RedisServer, narrow: str) -> None:
    change_user(each_redis, "resetkeys", narrow)
    assert await _missing(user_url) == ["~gate:*"]


async def test_keys_that_may_only_be_read(user_url: str, each_redis: RedisServer) -> None:
    if each_redis.flavor == "redis-6.2":
        pytest.skip("Redis 6.2 knows no right that only reads")
    change_user(each_redis, "resetkeys", "%R~gate:*")
    assert await _missing(user_url) == ["~gate:*"]


async def test_many_at_once_are_one_line(user_url: str, each_redis: RedisServer) -> None:
    change_user(each_redis, "-@write", "+select")
    client = client_of(parse_address(user_url))
    with pytest.raises(StoreUnavailable, match=r"lacks \+del .* and \d+ more: docs/operations.md has the line"):
        await require_rights(client, ALL)
    await client.aclose()


@pytest.mark.parametrize("healed_by", ["a write", "a start"])
async def test_a_script_that_ended_in_its_middle_stops_no_write_after_it(
    user_url: str, each_redis: RedisServer, healed_by: str
) -> None:
    store = await Store.connect(user_url, partitions=1, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    await store.bans.impose("app", [b"ann"], 5_000, 1)
    (before,) = await store.changelog.heads()
    change_user(each_redis, "-zadd")
    with pytest.raises(StoreUnavailable) as refused:
        await store.bans.impose("app", [b"bob"], 5_000, 1)
    assert refused.value.outcome == "unknown"
    change_user(each_redis, "+zadd")
    if healed_by == "a start":
        await store.changelog.prepare()
        assert (await store.changelog.heads())[0].seq == 0
    await store.bans.impose("app", [b"bob"], 6_000, 1)
    (after,) = await store.changelog.heads()
    assert after.seq == 1 and after.epoch != before.epoch, "what followers have is no longer certain"
    assert each_redis.client.xlen("gate:{0}:log") == 1
    await store.aclose()


async def _missing(url: str) -> list[str]:
    client = client_of(parse_address(url), PATIENCE_MS, PATIENCE_MS)
    try:
        return await missing_rights(client, ALL)
    finally:
        await client.aclose()
