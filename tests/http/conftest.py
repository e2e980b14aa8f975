"""The node that tests of endpoints call: one a module, since it takes half a second, and a fresh App for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.http.world import World, audited_redis, on_their_modules_loop, running_world


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_their_modules_loop(items, "world")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    directory = tmp_path_factory.mktemp("node")
    with audited_redis(directory) as server:
        async with running_world(server.url, directory / "replica") as running:
            yield running


@pytest_asyncio.fixture(loop_scope="module")
async def world(module_world: World) -> AsyncIterator[World]:
    await module_world.begin_app()
    yield module_world
    if not module_world.node.is_following:
        await module_world.node.follow()
