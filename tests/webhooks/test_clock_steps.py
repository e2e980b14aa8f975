"""Steps of Redis's clock: none repeats an attempt that is under way, or holds a retry up for longer than its own wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gate.core.model import AppFacts
from gate.store.store import Store
from gate.webhooks.delivery import Deliverer
from harness.faked_clock import FakedClock
from harness.servers import RedisServer
from tests.webhooks.receiver import Receiver, receiving

NOW = 1_000_000
HOUR_S = 3_600
WAITS_MS = (3_000, 3_000, 3_000)
IN_TIME_S = 12.0
ROUND_EVERY_S = 0.05


@pytest.fixture
async def receiver(clocked_redis: RedisServer) -> AsyncIterator[Receiver]:
    """Of an App that is to hear of one result."""
    store = await Store.connect(clocked_redis.url, partitions=2)
    async with receiving() as running:
        app = AppFacts(key="default", secrets=("current-secret",), webhook_url=f"{running.url}/hook")
        await store.apps.create(app, NOW)
        await store.deactivation.reactivate("default", [b"ann"], NOW, 0)
        yield running
    await store.aclose()


@asynccontextmanager
async def delivering(redis: RedisServer, node: str) -> AsyncIterator[Deliverer]:
    """A node's part."""
    store = await Store.connect(redis.url, partitions=2)
    async with Deliverer(store.webhooks, store.apps, node, waits_ms=WAITS_MS) as deliverer:
        yield deliverer
    await store.aclose()


async def rounds(deliverers: list[Deliverer], until: Callable[[], bool], timeout_s: float = IN_TIME_S) -> bool:
    """Rounds of all of them, until something is so; whether it came to be in time."""
    ends_at = asyncio.get_running_loop().time() + timeout_s
    while not until():
        if asyncio.get_running_loop().time() >= ends_at:
            return False
        for deliverer in deliverers:
            await deliverer.run_once()
        await asyncio.sleep(ROUND_EVERY_S)
    return True


async def test_a_step_forward_repeats_no_attempt_under_way(
    clocked_redis: RedisServer, receiver: Receiver, redis_clock: FakedClock
) -> None:
    receiver.statuses = [0]
    heard = receiver.callbacks
    async with delivering(clocked_redis, "one") as one, delivering(clocked_redis, "two") as two:
        assert await rounds([one], lambda: len(heard) == 1)
        assert not await rounds([two], lambda: len(heard) == 2, 0.2)
        redis_clock.step_to(2 * HOUR_S)
        assert not await rounds([two, one], lambda: len(heard) == 2, 1.5), "the attempt may be under way"
        assert await rounds([two, one], lambda: len(heard) == 2), "it counts as over once the clock has kept pace"


@pytest.mark.parametrize("is_running", [True, False], ids=["nodes-run", "no-node-runs"])
async def test_a_step_back_holds_a_retry_up_for_its_wait_at_most(
    clocked_redis: RedisServer, receiver: Receiver, redis_clock: FakedClock, is_running: bool
) -> None:
    receiver.statuses = [500, 200]
    async with delivering(clocked_redis, "one") as one:
        assert await rounds([one], lambda: len(receiver.callbacks) == 1)
        await one.drain()
        if is_running:
            redis_clock.step_to(-2 * HOUR_S)
            assert await rounds([one], lambda: len(receiver.callbacks) == 2)
    if not is_running:
        redis_clock.step_to(-2 * HOUR_S)
        async with delivering(clocked_redis, "two") as two:
            assert await rounds([two], lambda: len(receiver.callbacks) == 2)
