"""A Store on a real server: on each flavor (`store`), or on one where the flavor can't matter (`valkey_store`)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gate.core.model import AppFacts
from gate.store.store import Store
from tests.harness.servers import RedisServer
from tests.store.following import Follower

APP = "default"


PATIENCE_MS = 10_000
"""Where nothing is to be late: a busy machine must not look like a server that is away. `test_faults` has its own deadlines."""


@pytest.fixture
async def store(each_redis: RedisServer) -> AsyncIterator[Store]:
    opened = await Store.connect(each_redis.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    yield opened
    await opened.aclose()


@pytest.fixture
async def valkey_store(redis_server: RedisServer) -> AsyncIterator[Store]:
    opened = await Store.connect(redis_server.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    await opened.apps.create(AppFacts(key=APP, secrets=("s",)), 1)
    yield opened
    await opened.aclose()


@pytest.fixture
async def follower(store: Store) -> Follower:
    return await Follower.start(store.changelog)
