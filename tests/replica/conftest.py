"""A node on a real server, through a cable that a test can cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gate.core.model import AppFacts
from gate.store.store import Store
from harness.cable import Cable
from harness.servers import RedisServer
from tests.replica.node import APP, Node, running

FIRST_APP = AppFacts(key=APP, secrets=("s",))
DEADLINE_MS = 300
"""Shorter than the product's, so that a server that hangs costs a test less."""


@pytest.fixture
def cable(private_redis: RedisServer) -> Iterator[Cable]:
    with Cable(private_redis.port) as cable:
        yield cable


@pytest.fixture
async def store(private_redis: RedisServer) -> AsyncIterator[Store]:
    """The writer's connection to the server, which is never cut."""
    opened = await Store.connect(private_redis.url)
    await opened.apps.create(FIRST_APP, 1)
    yield opened
    await opened.aclose()


@pytest.fixture
async def followed(store: Store, cable: Cable) -> AsyncIterator[Store]:
    """The node's connection, through the cable."""
    opened = await Store.connect(cable.url, deadline_ms=DEADLINE_MS)
    yield opened
    await opened.aclose()


@pytest.fixture
async def redis_node(tmp_path: Path, followed: Store) -> AsyncIterator[Node]:
    async def first_app_again() -> None:
        if not await followed.apps.list():
            await followed.apps.create(FIRST_APP, 1)

    directory = tmp_path / "replica"
    source, announcer = followed.changelog, followed.announcer("node-1")
    async with running(directory, source, announcer, before_snapshot=first_app_again) as node:
        await node.until_ready()
        yield node
