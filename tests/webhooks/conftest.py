"""A deployment for tests of presence webhooks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gate.store.store import Store
from harness.servers import RedisServer
from tests.presence.played import PATIENCE_MS, presence_on
from tests.webhooks.notifier import Deployment
from tests.webhooks.receiver import Receiver, receiving


@pytest.fixture
async def deployment(redis_server: RedisServer) -> AsyncIterator[Deployment]:
    store = await Store.connect(redis_server.url, partitions=2, deadline_ms=PATIENCE_MS)
    presence = presence_on(redis_server.url)
    yield Deployment(store, presence)
    await presence.client.aclose()
    await store.aclose()


@pytest.fixture
async def listener() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running
