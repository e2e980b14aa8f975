"""From a deactivation to the App's webhook, through failures, restarts and dead letters."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest

from gate.core.model import AppFacts
from gate.errors import InvalidInput
from gate.store import keys
from gate.store.store import Store
from gate.store.webhook_queue import DeadWebhook
from gate.webhooks.delivery import Deliverer
from harness.servers import RedisServer
from tests.webhooks.receiver import Receiver, receiving

NOW = 1_000_000
APP = AppFacts(key="default", secrets=("current-secret", "old-secret"))
SOON = (1, 1, 1)
"""Four attempts, without the waits."""


@pytest.fixture
async def store(each_redis: RedisServer) -> AsyncIterator[Store]:
    opened = await Store.connect(each_redis.url, partitions=4)
    yield opened
    await opened.aclose()


@pytest.fixture
async def receiver(store: Store) -> AsyncIterator[Receiver]:
    async with receiving() as running:
        await store.apps.create(msgspec.structs.replace(APP, webhook_url=f"{running.url}/hook?tenant=7"), NOW)
        yield running


async def deliver_all(store: Store, outcomes: Counter[str], waits_ms: tuple[int, ...] = SOON) -> None:
    """Rounds until nothing waits."""

    def count(outcome: str) -> None:
        outcomes[outcome] += 1

    async with Deliverer(store.webhooks, store.apps, "node", count, waits_ms) as deliverer, asyncio.timeout(10):
        while await store.webhooks.waiting():
            await deliverer.run_once()
            await deliverer.drain()


async def test_a_result_arrives_signed_and_as_a_form(store: Store, receiver: Receiver) -> None:
    operation = await store.deactivation.reactivate("default", [b"a&=+ \xff"], NOW, 0)
    outcomes = Counter[str]()
    await deliver_all(store, outcomes)
    (callback,) = receiver.callbacks
    assert callback.content_type == "application/x-www-form-urlencoded"
    assert callback.form == {
        b"userId": b"a&=+ \xff",
        b"operateId": operation.id.encode(),
        b"type": b"1",
        b"code": b"0",
        b"time": b"%d" % NOW,
    }
    assert set(callback.query) == {"tenant", "appKey", "nonce", "timestamp", "signTimestamp", "signature"}
    assert callback.query["tenant"] == "7" and callback.query["appKey"] == "default"
    assert callback.query["timestamp"] == callback.query["signTimestamp"]
    assert callback.is_signed_by("current-secret")
    assert outcomes == {"delivered": 1}


async def test_a_deactivation_is_delivered_once_its_job_is_done(store: Store, receiver: Receiver) -> None:
    operation = await store.deactivation.deactivate("default", [b"ann", b"bob"], NOW)
    assert await store.webhooks.waiting() == 0
    for job in await store.jobs.claim(NOW):
        await store.jobs.run(job, NOW)
    await deliver_all(store, Counter())
    received = sorted((one.form[b"userId"], one.form[b"type"], one.form[b"operateId"]) for one in receiver.callbacks)
    assert received == [(user, b"0", operation.id.encode()) for user in (b"ann", b"bob")]


@pytest.mark.parametrize("statuses", [[500, 404, 200], [302, 200], [429, 201]])
async def test_what_is_not_taken_is_tried_again(store: Store, receiver: Receiver, statuses: list[int]) -> None:
    receiver.statuses = list(statuses)
    await store.deactivation.reactivate("default", [b"ann"], NOW, 0)
    outcomes = Counter[str]()
    await deliver_all(store, outcomes)
    assert len(receiver.callbacks) == len(statuses), "a redirect is not followed"
    assert outcomes == Counter({"failed": len(statuses) - 1, "delivered": 1})
    assert len({callback.query["nonce"] for callback in receiver.callbacks}) == len(statuses), (
        "each has its own signature"
    )


async def test_an_attempt_waits_its_turn(store: Store, receiver: Receiver) -> None:
    receiver.statuses = [500]
    await store.deactivation.reactivate("default", [b"ann"], NOW, 0)
    async with Deliverer(store.webhooks, store.apps, "node", waits_ms=(60_000,)) as deliverer:
        assert await deliverer.run_once() == 1
        await deliverer.drain()
        assert await deliverer.run_once() == 0
    assert await store.webhooks.waiting() == 1


async def test_it_is_given_up_listed_and_replayed(store: Store, receiver: Receiver) -> None:
    receiver.statuses = [503]
    operation = await store.deactivation.reactivate("default", [b"ann"], NOW, 0)
    outcomes = Counter[str]()
    await deliver_all(store, outcomes)
    assert outcomes == {"failed": 3, "dead": 1}
    (dead,) = await store.webhooks.dead("default")
    assert (dead.problem, dead.attempts) == ("it answered 503", 4)
    assert (dead.hook.user, dead.hook.operation) == (b"ann", operation.id)
    assert await store.webhooks.dead("other") == []
    receiver.statuses = [200]
    assert await store.webhooks.replay([dead.id]) == 1
    assert await store.webhooks.replay([dead.id]) == 0
    assert await store.webhooks.dead("default") == []
    await deliver_all(store, outcomes)
    assert receiver.callbacks[-1].form == receiver.callbacks[0].form
    assert outcomes == {"failed": 3, "dead": 1, "delivered": 1}


async def test_the_state_of_an_app_counts_its_own_results(store: Store, receiver: Receiver) -> None:
    other = msgspec.structs.replace(APP, key="other", webhook_url=receiver.url)
    await store.apps.create(other, NOW)
    assert await store.webhooks.state("default") == (0, 0, 0, 0, True, None)
    await store.deactivation.reactivate("other", [b"x1", b"x2"], NOW, 0)
    await store.deactivation.reactivate("default", [b"ann", b"bob", b"eve"], NOW, 0)
    state = await store.webhooks.state("default")
    assert (state.waiting, state.under_way, state.tried, state.is_complete) == (3, 0, 0, True)
    assert state.oldest_ms > 1_700_000_000_000
    await store.webhooks.take("dying", 10, [60_000])
    assert (await store.webhooks.state("default")).under_way == 3


async def test_the_last_outcome_is_kept_until_the_app_is_removed(store: Store, receiver: Receiver) -> None:
    await store.deactivation.reactivate("default", [b"ann"], NOW, 0)
    receiver.statuses = [503]
    async with Deliverer(store.webhooks, store.apps, "node", waits_ms=SOON) as deliverer:
        await deliverer.run_once()
        await deliverer.drain()
    last = (await store.webhooks.state("default")).last
    assert last is not None and (last.outcome, last.problem) == ("failed", "it answered 503")
    await deliver_all(store, Counter())
    last = (await store.webhooks.state("default")).last
    assert last is not None and (last.outcome, last.problem) == ("dead", "it answered 503")
    receiver.statuses = [200]
    await store.webhooks.replay([dead.id for dead in await store.webhooks.dead("default")])
    await deliver_all(store, Counter())
    last = (await store.webhooks.state("default")).last
    assert last is not None and (last.outcome, last.problem) == ("delivered", "")
    await store.apps.remove("default", NOW)
    assert (await store.webhooks.state("default")).last is None


async def test_dead_letters_come_in_pages_and_may_be_dropped(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gate.store.webhook_queue.DEAD_A_STEP", 3)
    await store.apps.create(msgspec.structs.replace(APP, key="other", webhook_url=receiver.url), NOW)
    receiver.statuses = [503]
    users = [b"u%d" % number for number in range(11)]
    await store.deactivation.reactivate("default", users, NOW, 0)
    await store.deactivation.reactivate("other", users, NOW, 0)
    await deliver_all(store, Counter())
    found: list[DeadWebhook] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page, cursor = await store.webhooks.dead_page("default", 4, cursor)
        found, pages = [*found, *page], pages + 1
    assert {one.id for one in found} == {one.id for one in await store.webhooks.dead("default")}
    moments = [one.gave_up_ms for one in found]
    assert moments == sorted(moments, reverse=True)
    assert sorted(one.hook.user for one in found) == sorted(users)
    assert pages >= 3
    foreign = (await store.webhooks.dead("other"))[0].id
    assert await store.webhooks.dead_letters("default", [found[0].id, foreign, "0:1-1"]) == [found[0]]
    assert await store.webhooks.drop([found[0].id]) == 1
    assert await store.webhooks.drop([found[0].id]) == 0
    assert len(await store.webhooks.dead("default")) == 10
    for wrong in ("x", "1-2", "99999-1-1-1"):
        with pytest.raises(InvalidInput):
            await store.webhooks.dead_page("default", 4, wrong)
    with pytest.raises(InvalidInput):
        await store.webhooks.drop(["9999:1-1"])


async def test_an_address_without_a_listener(store: Store, receiver: Receiver) -> None:
    await store.apps.put(msgspec.structs.replace(APP, webhook_url="http://127.0.0.1:1/"), NOW)
    await store.deactivation.reactivate("default", [b"ann"], NOW, 0)
    await deliver_all(store, Counter())
    (dead,) = await store.webhooks.dead("default")
    assert dead.problem == "it could not be reached (ClientConnectorError)"


@pytest.mark.parametrize("is_removed", [False, True])
async def test_an_app_without_webhook_leaves_nothing_behind(store: Store, is_removed: bool) -> None:
    await store.apps.create(APP, NOW)
    await store.deactivation.reactivate("default", [b"ann"], NOW, 0)
    if is_removed:
        await store.apps.remove("default", NOW)
    outcomes = Counter[str]()
    await deliver_all(store, outcomes)
    assert outcomes == {"unwanted": 1}
    assert await store.webhooks.dead("default") == []


async def test_a_worker_that_dies_at_it_leaves_it_to_another(store: Store, receiver: Receiver) -> None:
    receiver.statuses = [0, 200]
    await store.deactivation.reactivate("default", [b"ann"], NOW, 0)
    async with Deliverer(store.webhooks, store.apps, "dying", waits_ms=SOON) as dying, asyncio.timeout(10):
        await dying.run_once()
        while not receiver.callbacks:
            await asyncio.sleep(0.001)
    assert await store.webhooks.waiting() == 1
    await deliver_all(store, Counter())
    assert len(receiver.callbacks) == 2


async def test_two_workers_share_without_doubles(store: Store, receiver: Receiver) -> None:
    users = [b"u%d" % number for number in range(100)]
    await store.deactivation.reactivate("default", users, NOW, 0)
    async with (
        Deliverer(store.webhooks, store.apps, "one", waits_ms=(60_000,)) as one,
        Deliverer(store.webhooks, store.apps, "two", waits_ms=(60_000,)) as two,
        asyncio.timeout(10),
    ):
        while await store.webhooks.waiting():
            await asyncio.gather(one.run_once(), two.run_once())
            await asyncio.gather(one.drain(), two.drain())
    assert sorted(callback.form[b"userId"] for callback in receiver.callbacks) == sorted(users)


async def test_a_group_that_the_server_forgot_is_made_again(
    store: Store, receiver: Receiver, each_redis: RedisServer
) -> None:
    receiver.statuses = [500]
    await store.deactivation.reactivate("default", [b"ann"], NOW, 0)
    async with Deliverer(store.webhooks, store.apps, "node", waits_ms=(60_000,)) as deliverer:
        await deliverer.run_once()
        await deliverer.drain()
        each_redis.client.xgroup_destroy(keys.hooks(store.writer.partition_of("default", b"ann")), "webhooks")
        receiver.statuses = [200]
        assert await deliverer.run_once() == 1
        await deliverer.drain()
    assert await store.webhooks.waiting() == 0
