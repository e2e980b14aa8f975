"""Claims on an App's presence webhook: one node's at a time, for a while, and only its owner moves the cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gate.core.presence import Cursor
from gate.store import presence_keys as keys
from gate.store.presence import PresenceStore
from gate.store.presence_hooks import APPS_A_PIPELINE, Claim, Claiming, PresenceHooks
from tests.harness.servers import RedisServer
from tests.presence.played import presence_on

HOLD_MS = 10_000
HERE, FURTHER = Cursor("e", 1, 100), Cursor("e", 2, 200)
TAKEN = Claim(False, None)


@pytest.fixture
async def presence(each_redis: RedisServer) -> AsyncIterator[PresenceStore]:
    store = presence_on(each_redis.url)
    yield store
    await store.client.aclose()


@pytest.fixture
def one(presence: PresenceStore) -> PresenceHooks:
    return PresenceHooks(presence.client, "one")


@pytest.fixture
def two(presence: PresenceStore) -> PresenceHooks:
    return PresenceHooks(presence.client, "two")


async def asked(hooks: PresenceHooks, cursor: Cursor | None = None, hold_ms: int = HOLD_MS) -> Claim:
    (claim,) = await hooks.claim([Claiming("app", cursor)], hold_ms)
    return claim


async def test_whoever_asks_first_has_it_and_alone_moves_the_cursor(one: PresenceHooks, two: PresenceHooks) -> None:
    assert await asked(one) == Claim(True, None)
    assert await asked(two) == await asked(two, FURTHER) == TAKEN
    assert await asked(one, HERE) == Claim(True, HERE)
    assert await asked(one) == Claim(True, HERE), "renewing leaves the cursor"
    assert await asked(two, FURTHER) == Claim(False, HERE)


async def test_a_claim_that_ended_is_free_but_not_for_another_s_cursor(one: PresenceHooks, two: PresenceHooks) -> None:
    await asked(one, HERE)
    await asked(one, hold_ms=0)
    assert await asked(two, FURTHER) == Claim(False, HERE), "it lost the claim before, and with it the say"
    assert await asked(two) == Claim(True, HERE)
    assert await asked(one, FURTHER) == Claim(False, HERE)


async def test_what_is_given_back_is_another_s_at_once(one: PresenceHooks, two: PresenceHooks) -> None:
    await asked(one, HERE)
    await one.give_back([Claiming("app", FURTHER)])
    assert await asked(two) == Claim(True, FURTHER)


async def test_a_claim_dated_by_a_clock_that_was_set_back_holds_nobody_up(
    one: PresenceHooks, two: PresenceHooks, each_redis: RedisServer
) -> None:
    await asked(one, HERE)
    each_redis.client.hincrby(keys.hook("app"), "until", 3_600_000)
    assert await asked(two) == Claim(True, HERE)


async def test_its_owner_goes_on_where_the_server_lost_it(one: PresenceHooks, each_redis: RedisServer) -> None:
    await asked(one, HERE)
    each_redis.client.delete(keys.hook("app"))
    assert await asked(one, FURTHER) == Claim(True, FURTHER)


async def test_only_what_no_other_holds_is_forgotten(
    one: PresenceHooks, two: PresenceHooks, each_redis: RedisServer
) -> None:
    await asked(one, HERE)
    assert await two.forget(["app", "never-there"]) == ["app"]
    assert await asked(one) == Claim(True, HERE)
    assert await one.forget(["app"]) == []
    assert not each_redis.client.exists(keys.hook("app"))


async def test_many_apps_are_asked_for_in_parts(one: PresenceHooks) -> None:
    many = [Claiming(f"app-{number}", None) for number in range(2 * APPS_A_PIPELINE + 1)]
    assert await one.claim(many, HOLD_MS) == [Claim(True, None)] * len(many)
    assert await one.heads([claiming.app_key for claiming in many]) == [("0", 0)] * len(many)
    await one.forget([claiming.app_key for claiming in many])
