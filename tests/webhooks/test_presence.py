"""From the feed to the App's presence webhook: in order, in batches, signed; past receivers that fail and new addresses."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import cast

import pytest

from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.store import presence_keys as keys
from gate.store.webhook_claims import CLAIM_MS
from gate.webhooks import presence
from gate.webhooks.presence import FIRST_WAIT_MS, LONGEST_WAIT_MS, MOST_A_BATCH
from harness.ports import free_port
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.webhooks.notifier import (
    IN_TIME_S,
    KEY,
    SECRET,
    Deployment,
    HandClock,
    batches,
    changes,
    heard,
    looked,
    notifying,
    online,
    watches,
)
from tests.webhooks.receiver import Receiver, receiving


async def test_a_change_arrives_signed_within_a_second(deployment: Deployment, listener: Receiver) -> None:
    gateway = await deployment.add(f"{listener.url}/hook?tenant=7")
    notifier = deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
        began_ms, began_s = wall_ms(), time.monotonic()
        session = await gateway.open(b"ann", "Android")
        await heard(listener, [("ann", "0")])
        assert time.monotonic() - began_s < 1
    (callback,) = listener.callbacks
    assert callback.content_type == "application/json"
    assert set(callback.query) == {"tenant", "appKey", "nonce", "timestamp", "signTimestamp", "signature"}
    assert callback.query["tenant"] == "7" and callback.query["appKey"] == KEY
    assert callback.is_signed_by(SECRET)
    ((change,),) = batches(listener)
    assert began_ms <= change.pop("time") <= wall_ms()
    assert change == {"userid": "ann", "status": "0", "os": "Android", "clientIp": "", "sessionId": session}
    assert deployment.counted == {"batches delivered": 1, "changes delivered": 1}


async def test_what_waits_comes_in_batches_and_in_order(deployment: Deployment, listener: Receiver) -> None:
    users = [b"u%d" % number for number in range(2 * MOST_A_BATCH + 50)]
    gateway = await deployment.add(listener.url)
    notifier = deployment.notifier()
    await looked(notifier)
    sessions = await gateway.open_many(users)
    await gateway.store.kick(KEY, [users[0]], "kicked")
    async with notifying(notifier):
        await heard(listener, online(users))
    assert [len(batch) for batch in batches(listener)] == [MOST_A_BATCH, MOST_A_BATCH, 50]
    assert [one["sessionId"] for batch in batches(listener) for one in batch] == sessions


async def test_the_same_batch_is_tried_until_it_is_taken_each_time_later(
    deployment: Deployment, listener: Receiver
) -> None:
    listener.statuses = [500, 302, 404, 429, 503, 500, 500, 500, 200]
    clock = HandClock()
    gateway, notifier = await deployment.add(listener.url), deployment.notifier(clock=clock)

    async def attempt() -> int:
        """How many there were after another look."""
        await notifier.look()
        running = notifier.receivers[KEY].running
        if running is not None:
            await running
        return len(listener.callbacks)

    async with notifier.poster:
        await notifier.look()
        await gateway.open(b"ann")
        assert await attempt() == 1
        await gateway.open(b"bob")
        for wait_ms in (1_000, 2_000, 4_000, 8_000, 16_000, 32_000, LONGEST_WAIT_MS, LONGEST_WAIT_MS):
            before = len(listener.callbacks)
            clock.now_ms += wait_ms - 1
            assert await attempt() == before, f"it waits {wait_ms} ms"
            clock.now_ms += 1
            assert await attempt() >= before + 1
    assert changes(listener) == [("ann", "0")] * 9 + [("bob", "0")]
    assert len({callback.query["nonce"] for callback in listener.callbacks}) == 10, "each has its own signature"
    assert deployment.counted == {"batches failed": 8, "batches delivered": 2, "changes delivered": 2}


async def test_a_receiver_that_was_down_hears_all_of_it_when_it_is_back(deployment: Deployment) -> None:
    port, users = free_port(), [b"u%d" % number for number in range(150)]
    gateway, notifier = await deployment.add(f"http://127.0.0.1:{port}/"), deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
        await gateway.open_many(users)
        await wait_until_async(lambda: deployment.counted["batches failed"], IN_TIME_S, "a failure")
        await gateway.open(b"late")
        async with receiving(port) as receiver:
            await heard(receiver, online([*users, b"late"]))


async def test_of_ten_apps_one_that_hangs_holds_up_none(deployment: Deployment, listener: Receiver) -> None:
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(receiving()) for _ in range(9)]
        listener.statuses = [0]
        stuck = await deployment.add(listener.url, "stuck")
        gateways = [await deployment.add(one.url, f"app-{at}") for at, one in enumerate(receivers)]
        notifier = deployment.notifier()
        async with notifying(notifier):
            for key in ("stuck", *(f"app-{at}" for at in range(9))):
                await watches(notifier, key)
            await stuck.open(b"ann")
            await wait_until_async(lambda: listener.callbacks, IN_TIME_S, "the hanging attempt")
            began_s = time.monotonic()
            users = [b"u%d" % number for number in range(3)]
            for user in users:
                await asyncio.gather(*(gateway.open(user) for gateway in gateways))
                wanted = online(users[: users.index(user) + 1])
                await asyncio.gather(*(heard(receiver, wanted) for receiver in receivers))
            assert time.monotonic() - began_s < 4, "less than an attempt that hangs"
            assert len(listener.callbacks) == 1


async def test_a_hanging_attempt_ends_and_is_made_again(deployment: Deployment, listener: Receiver) -> None:
    listener.statuses = [0, 200]
    gateway, notifier = await deployment.add(listener.url), deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
        await gateway.open(b"ann")
        await heard(listener, [("ann", "0"), ("ann", "0")])
    assert deployment.counted == {"batches failed": 1, "batches delivered": 1, "changes delivered": 1}


async def test_a_new_address_begins_with_what_happens_then(deployment: Deployment, listener: Receiver) -> None:
    gateway = await deployment.add("")
    notifier = deployment.notifier()
    async with notifying(notifier):
        await gateway.open(b"before")
        await deployment.set_url(listener.url)
        await watches(notifier)
        await gateway.open(b"ann")
        await heard(listener, [("ann", "0")])
        await deployment.set_url("")
        await wait_until_async(lambda: not notifier.receivers and not notifier.to_forget, IN_TIME_S, "the end of it")
        await gateway.open(b"unheard")
        await deployment.set_url(listener.url)
        await watches(notifier)
        await gateway.open(b"bob")
        await heard(listener, [("ann", "0"), ("bob", "0")])


async def test_an_address_that_is_corrected_receives_all_that_waited(
    deployment: Deployment, listener: Receiver
) -> None:
    gateway, notifier = await deployment.add(f"http://127.0.0.1:{free_port()}/"), deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
        await gateway.open(b"ann")
        await wait_until_async(lambda: deployment.counted["batches failed"], IN_TIME_S, "a failure")
        await deployment.set_url(listener.url)
        await heard(listener, [("ann", "0")])


async def test_a_webhook_set_off_and_on_while_no_node_ran_starts_again_too(
    deployment: Deployment, listener: Receiver
) -> None:
    gateway, notifier = await deployment.add(listener.url), deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
    await deployment.set_url("")
    await looked(deployment.notifier())
    await gateway.open(b"unheard")
    await deployment.set_url(listener.url)
    notifier = deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
        await gateway.open(b"ann")
        await heard(listener, [("ann", "0")])


async def test_an_app_that_is_removed_leaves_nothing_behind(
    deployment: Deployment, listener: Receiver, redis_server: RedisServer
) -> None:
    gateway, notifier = await deployment.add(listener.url), deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
        await gateway.open(b"ann")
        await heard(listener, [("ann", "0")])
        await deployment.store.apps.remove(KEY, wall_ms())
        await deployment.presence.remove_app(KEY)
        await wait_until_async(lambda: not notifier.receivers and not notifier.to_forget, IN_TIME_S, "the end of it")
        assert not redis_server.client.exists(keys.hook(KEY))


@pytest.mark.parametrize("kept", [0, 40])
async def test_entries_that_are_gone_are_counted_and_the_oldest_kept_comes_next(
    deployment: Deployment, listener: Receiver, redis_server: RedisServer, kept: int
) -> None:
    users = [b"u%d" % number for number in range(100)]
    gateway, notifier = await deployment.add(listener.url), deployment.notifier()
    await looked(notifier)
    await gateway.open_many(users)
    redis_server.client.xtrim(keys.feed(KEY), maxlen=kept, approximate=False)
    async with notifying(notifier):
        await gateway.open(b"late")
        await heard(listener, online([*users[100 - kept :], b"late"]))
    assert deployment.counted["changes lost"] == 100 - kept


@pytest.mark.parametrize("is_all_that_is_kept", [False, True])
async def test_entries_of_another_version_count_as_lost_and_later_ones_are_sent(
    deployment: Deployment, listener: Receiver, redis_server: RedisServer, is_all_that_is_kept: bool
) -> None:
    gateway, notifier = await deployment.add(listener.url), deployment.notifier()
    await looked(notifier)
    await gateway.open(b"ann")
    for _ in range(2):
        seq = redis_server.client.hincrby(keys.feed_meta(KEY), "seq", 1)
        redis_server.client.xadd(keys.feed(KEY), {"e": b"online alice"}, id=f"{seq}-0")
    await gateway.open(b"bob")
    if is_all_that_is_kept:
        redis_server.client.xtrim(keys.feed(KEY), maxlen=2, approximate=False)
    async with notifying(notifier):
        await heard(listener, online([b"bob"] if is_all_that_is_kept else [b"ann", b"bob"]))
    assert deployment.counted["changes lost"] == (3 if is_all_that_is_kept else 2)


async def test_after_redis_lost_all_data_the_new_feed_is_sent_from_its_beginning(
    deployment: Deployment, listener: Receiver, redis_server: RedisServer
) -> None:
    gateway, notifier = await deployment.add(listener.url), deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
        await gateway.open(b"ann")
        await heard(listener, [("ann", "0")])
        redis_server.client.delete(*redis_server.client.keys(f"gate:{{{KEY}}}:*"))
        gateway = await gateway.lease()
        await gateway.open(b"bob")
        await heard(listener, [("ann", "0"), ("bob", "0")])


async def test_after_redis_went_back_old_events_are_not_delivered_again(
    deployment: Deployment, listener: Receiver, redis_server: RedisServer
) -> None:
    """The newest entries are gone, others have taken their numbers."""
    gateway, notifier = await deployment.add(listener.url), deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
        await gateway.open_many([b"old", b"new"])
        await heard(listener, online([b"old", b"new"]))
    go_back(redis_server, 1)
    await gateway.open(b"ann")
    async with notifying(deployment.notifier()):
        await heard(listener, online([b"old", b"new", b"ann"]))


async def test_after_redis_went_back_entries_of_another_version_are_passed_over(
    deployment: Deployment, listener: Receiver, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They follow on as many entries that were delivered as are read at once."""
    monkeypatch.setattr(presence, "MOST_A_READ", 1)
    gateway, notifier = await deployment.add(listener.url), deployment.notifier()
    async with notifying(notifier):
        await watches(notifier)
        await gateway.open_many([b"old", b"new"])
        await heard(listener, online([b"old", b"new"]))
    go_back(redis_server, 2)
    redis_server.client.xadd(keys.feed(KEY), {"e": b"online alice"}, id="2-0")
    await gateway.open(b"ann")
    async with notifying(deployment.notifier()):
        await heard(listener, online([b"old", b"new", b"ann"]))
    assert deployment.counted["changes lost"] == 1


def go_back(server: RedisServer, seq: int) -> None:
    """The feed has its first entry alone, an hour older, and the next entry gets the number after `seq`."""
    redis, feed = server.client, keys.feed(KEY)
    (_, first), *_ = cast("list[tuple[bytes, dict[bytes, bytes]]]", redis.xrange(feed))
    redis.delete(feed)
    kind, at_us, rest = first[b"e"].split(b" ", 2)
    redis.xadd(feed, {"e": b"%b %d %b" % (kind, int(at_us) - 3_600_000_000, rest)}, id="1-0")
    redis.hset(keys.feed_meta(KEY), "seq", seq)


async def test_apps_without_the_webhook_cost_nothing(deployment: Deployment, redis_server: RedisServer) -> None:
    for number in range(300):
        await deployment.store.apps.create(AppFacts(key=f"app-{number}", secrets=(SECRET,)), wall_ms())
    notifier, redis = deployment.notifier(clock=(clock := HandClock())), redis_server.client
    await looked(notifier)
    redis.config_resetstat()
    for _ in range(20):
        clock.now_ms += 5_000
        await notifier.look()
    calls = {name: stat["calls"] for name, stat in redis.info("commandstats").items() if "config" not in name}
    assert calls == {"cmdstat_hmget": 20}


def test_an_attempt_ends_before_its_claim_and_waits_grow_from_a_second() -> None:
    from gate.webhooks.presence import ATTEMPT_MS, RENEW_EVERY_MS

    assert RENEW_EVERY_MS + ATTEMPT_MS < CLAIM_MS
    assert (FIRST_WAIT_MS, LONGEST_WAIT_MS) == (1_000, 60_000)
