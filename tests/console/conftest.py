"""The node that tests of pages call, behind a cable to its Redis: one a module, with a fresh App for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import pytest_asyncio

from gate.core.operators import OperatorRole
from gate.errors import StoreUnavailable
from harness.cable import Cable
from harness.waiting import wait_until_async
from tests.console.visitor import Visitor, begin_operator
from tests.http.world import World, audited_redis, on_their_modules_loop, running_world
from tests.presence.played import Gateway


class Place(NamedTuple):
    """A node and the cable to its Redis."""

    world: World
    cable: Cable

    async def visitor(self, role: OperatorRole = "operator") -> Visitor:
        """A browser, signed in as a new operator of this role."""
        visitor = Visitor(self.world, await begin_operator(self.world, role))
        assert (await visitor.sign_in()).status == 303
        return visitor

    async def gateway_session(self, user: bytes, platform: str = "iOS", gateway: bytes = b"edge-1") -> str:
        """A new Session's id."""
        return await (await Gateway(self.world.presence, self.world.app, gateway).lease()).open(user, platform)

    @asynccontextmanager
    async def redis_away(self) -> AsyncIterator[None]:
        """For as long as the block lasts; after it, Redis is back."""
        with self.cable.cut_off():
            yield
        await wait_until_async(self._redis_answers, 10, "Redis to be reached again")

    async def _redis_answers(self) -> bool:
        try:
            await self.world.store.apps.list()
            await self.world.presence.counts(self.world.app.key)
        except StoreUnavailable:
            return False
        return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_their_modules_loop(items, "place")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    directory = tmp_path_factory.mktemp("node")
    with audited_redis(directory) as server, Cable(server.port) as cable:
        async with running_world(cable.url, directory / "replica") as world:
            yield Place(world, cable)


@pytest_asyncio.fixture(loop_scope="module")
async def place(module_place: Place) -> Place:
    await module_place.world.begin_app()
    return module_place
