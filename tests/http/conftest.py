"""The node that tests of endpoints call: one a module, since it takes half a second, and a fresh App for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gate.store.keys import PATTERNS
from harness.leaks import audit_keys
from harness.servers import RedisServer
from tests.http.world import World, running_world


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A module's node lives on the module's loop, so its tests run there."""
    for item in items:
        if "world" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    directory = tmp_path_factory.mktemp("node")
    server = RedisServer.start("valkey-9", directory / "redis")
    try:
        async with running_world(server.url, directory / "replica") as running:
            yield running
        audit_keys(server.client, PATTERNS)
    finally:
        server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def world(module_world: World) -> AsyncIterator[World]:
    await module_world.begin_app()
    yield module_world
    if not module_world.node.is_following:
        await module_world.node.follow()
