"""Claims on an App's presence webhook: one node at a time, while it renews them; only the owner moves the cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gate.core.presence import Cursor
from gate.store import presence_keys as keys
from gate.store.presence import PresenceStore
from gate.store.webhook_claims import APPS_A_PIPELINE, CLAIM_MS, Claim, Claiming, WebhookClaims
from harness.faked_clock import FakedClock
from harness.servers import RedisServer
from tests.presence.played import presence_on
from tests.webhooks.notifier import HandClock

HERE, FURTHER = Cursor("e", 1, 100), Cursor("e", 2, 200)
TAKEN = Claim(False, None)


@pytest.fixture
async def presence(each_redis: RedisServer) -> AsyncIterator[PresenceStore]:
    store = presence_on(each_redis.url)
    yield store
    await store.client.aclose()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def one(presence: PresenceStore, clock: HandClock) -> WebhookClaims:
    return WebhookClaims(presence.client, "one", clock)


@pytest.fixture
def two(presence: PresenceStore, clock: HandClock) -> WebhookClaims:
    return WebhookClaims(presence.client, "two", clock)


async def asked(hooks: WebhookClaims, cursor: Cursor | None = None) -> Claim:
    (claim,) = await hooks.claim([Claiming("app", cursor)])
    return claim


async def test_the_first_claimant_has_it_and_alone_moves_the_cursor(one: WebhookClaims, two: WebhookClaims) -> None:
    assert await asked(one) == Claim(True, None)
    assert await asked(two) == await asked(two, FURTHER) == TAKEN
    assert await asked(one, HERE) == Claim(True, HERE)
    assert await asked(one) == Claim(True, HERE), "renewing leaves the cursor"
    assert await asked(two, FURTHER) == Claim(False, HERE)


async def test_a_claim_not_renewed_is_taken_over_without_a_cursor(
    one: WebhookClaims, two: WebhookClaims, clock: HandClock
) -> None:
    await asked(one, HERE)
    assert await asked(two) == Claim(False, HERE)
    clock.now_ms += CLAIM_MS - 1
    assert await asked(two) == Claim(False, HERE)
    clock.now_ms += 1
    assert await asked(two, FURTHER) == Claim(False, HERE), "it lost the claim before, and with it the say"
    assert await asked(two) == Claim(True, HERE)
    assert await asked(one, FURTHER) == Claim(False, HERE)


async def test_a_renewed_claim_is_never_taken_over(one: WebhookClaims, two: WebhookClaims, clock: HandClock) -> None:
    await asked(one, HERE)
    for _ in range(5):
        assert await asked(two) == Claim(False, HERE)
        await asked(one, HERE)
        clock.now_ms += CLAIM_MS
        assert await asked(two) == Claim(False, HERE), "seen for too long, but renewed meanwhile"


async def test_what_is_given_back_is_another_s_at_once(one: WebhookClaims, two: WebhookClaims) -> None:
    await asked(one, HERE)
    await one.give_back([Claiming("app", FURTHER)])
    assert await asked(two) == Claim(True, FURTHER)


@pytest.mark.parametrize("step_s", [7_200, -7_200])
async def test_no_step_of_redis_clock_frees_or_holds_a_claim(tmp_path: Path, clock: HandClock, step_s: int) -> None:
    redis_clock = FakedClock(tmp_path / "clock")
    server = RedisServer.start("valkey-9", tmp_path / "redis", env=redis_clock.env)
    store = presence_on(server.url)
    one, two = (WebhookClaims(store.client, who, clock) for who in ("one", "two"))
    await asked(one, HERE)
    await asked(two)
    redis_clock.step_to(step_s)
    assert await asked(two) == Claim(False, HERE)
    clock.now_ms += CLAIM_MS
    assert await asked(two) == Claim(True, HERE)
    await store.client.aclose()
    server.stop()


async def test_its_owner_goes_on_where_the_server_lost_it(one: WebhookClaims, each_redis: RedisServer) -> None:
    await asked(one, HERE)
    each_redis.client.delete(keys.hook("app"))
    assert await asked(one, FURTHER) == Claim(True, FURTHER)


async def test_only_what_no_other_holds_is_forgotten(
    one: WebhookClaims, two: WebhookClaims, each_redis: RedisServer
) -> None:
    await asked(one, HERE)
    assert await two.forget(["app", "never-there"]) == ["app"]
    assert await asked(one) == Claim(True, HERE)
    assert await one.forget(["app"]) == []
    assert not each_redis.client.exists(keys.hook("app"))


async def test_many_apps_are_asked_for_in_parts(one: WebhookClaims) -> None:
    many = [Claiming(f"app-{number}", None) for number in range(2 * APPS_A_PIPELINE + 1)]
    assert await one.claim(many) == [Claim(True, None)] * len(many)
    assert await one.heads([claiming.app_key for claiming in many]) == [[("0", 0)]] * len(many)
    await one.forget([claiming.app_key for claiming in many])
