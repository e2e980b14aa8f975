"""Connections that end, or that lead to another server, at the moments between two steps: nothing wrong is used or kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gate.clock import monotonic_ms
from gate.core.model import AppFacts
from gate.errors import StoreUnavailable
from gate.store import keys, snapshot
from gate.store.link import Link, open_link
from gate.store.store import Store
from gate.store.subscription import Subscription
from harness.cable import Cable
from harness.sentinels import SentinelSetup
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.store.conftest import APP

DEADLINE_MS = 1_000
PATIENCE_MS = 10_000


@pytest.fixture
def cable(private_redis: RedisServer) -> Iterator[Cable]:
    with Cable(private_redis.port) as between:
        yield between


@pytest.fixture
async def store(cable: Cable) -> AsyncIterator[Store]:
    opened = await Store.connect(cable.url, deadline_ms=DEADLINE_MS, connect_ms=DEADLINE_MS)
    await opened.apps.create(AppFacts(key=APP, secrets=("s",)), 1)
    yield opened
    await opened.aclose()


async def test_a_snapshot_whose_connection_ends_is_no_snapshot(
    store: Store, cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SCAN_COUNT", 10)
    await store.bans.impose(APP, [b"u%d" % number for number in range(200)], 5_000, 1)
    with pytest.raises(StoreUnavailable):
        async for _ in store.snapshot():
            cable.cut()
    cable.mend()


async def test_a_subscription_whose_connection_hangs_fails_in_time(store: Store, cable: Cable) -> None:
    opened = await store.client.open_dedicated()
    async with Subscription(store.client, keys.ASK_CHANNEL, lambda *_: None) as subscription:
        with cable.frozen(), pytest.raises(StoreUnavailable):
            await subscription.begin()
        assert subscription.link is None
        await wait_until_async(lambda: begun(subscription), 10, "it to begin once the server answers")
    await opened.aclose()


async def begun(subscription: Subscription) -> bool:
    try:
        await subscription.begin()
    except StoreUnavailable:
        return False
    return True


async def test_a_server_that_died_is_not_connected_to_again_and_again(store: Store, private_redis: RedisServer) -> None:
    private_redis.kill()
    await wait_until_async(lambda: store.client.problem or is_refused(store), 10, "the loss to be noticed")
    begun_ms = monotonic_ms()
    for _ in range(100):
        with pytest.raises(StoreUnavailable):
            await store.client.connect()
    assert monotonic_ms() - begun_ms < DEADLINE_MS, "each of them fails at once"


async def is_refused(store: Store) -> bool:
    try:
        await store.client.connect()
    except StoreUnavailable:
        return True
    return False


async def test_a_slow_connection_to_an_earlier_server_is_not_used(
    private_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address leads to another server since: what the earlier one would answer is no acknowledgement."""
    store = await Store.connect(private_redis.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    newer = asyncio.Event()
    slow_links: list[Link] = []

    async def opened_late(*arguments: Any) -> Link:
        link = await open_link(*arguments)
        if asyncio.current_task() is slow:
            slow_links.append(link)
            link.server_id = "an earlier server"
            await newer.wait()
        return link

    monkeypatch.setattr("gate.store.client.open_link", opened_late)
    begun_ms = monotonic_ms()
    slow = asyncio.create_task(store.client.open_dedicated())
    await wait_until_async(lambda: slow_links and monotonic_ms() > begun_ms, 10, "the slow connection")
    quick = await store.client.open_dedicated()
    newer.set()
    with pytest.raises(StoreUnavailable, match="led to another server a moment later"):
        await slow
    assert (quick.is_open, slow_links[0].is_open) == (True, False)
    await quick.aclose()
    await store.aclose()


async def test_a_primary_that_was_replaced_while_it_was_connected_to_is_not_used(
    sentinel_setup: SentinelSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.connect(sentinel_setup.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    sentinels = store.client.sentinels
    assert sentinels is not None
    opened: list[Link] = []

    async def opened_late(*arguments: Any) -> Link:
        link = await open_link(*arguments)
        if asyncio.current_task() is connecting:
            opened.append(link)
            sentinels.named = None  # as after the message of a failover
        return link

    monkeypatch.setattr("gate.store.client.open_link", opened_late)
    connecting = asyncio.create_task(store.client.open_dedicated())
    with pytest.raises(StoreUnavailable, match="is not the primary any more"):
        await connecting
    assert not opened[0].is_open
    again = await store.client.open_dedicated()
    assert sentinels.named is not None and again.is_open
    await again.aclose()
    await store.aclose()
