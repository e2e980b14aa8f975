"""What Apps' webhooks share, one process and its connections, must not be felt from one App to the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gate.core.model import AppFacts
from gate.store.store import Store
from gate.webhooks.delivery import MAX_UNDER_WAY, Deliverer
from harness.servers import RedisServer
from tests.webhooks.receiver import receiving

NOW = 1_000_000
PARTITIONS = 16


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    opened = await Store.connect(redis_server.url, partitions=PARTITIONS)
    yield opened
    await opened.aclose()


@asynccontextmanager
async def cookie_setter() -> AsyncIterator[tuple[str, list[str]]]:
    """A receiver under a name, as cookies need one; and the cookies that it was shown."""
    shown: list[str] = []

    async def take(request: web.Request) -> web.Response:
        await request.read()
        shown.append(request.headers.get("Cookie", ""))
        return web.Response(headers={"Set-Cookie": "tenant=a; Path=/"})

    runner = web.AppRunner(web.Application())
    runner.app.router.add_post("/{any:.*}", take)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0).start()
    try:
        yield f"http://localhost:{runner.addresses[0][1]}/hook", shown
    finally:
        await runner.cleanup()


async def test_a_cookie_of_a_response_is_never_sent_back(store: Store) -> None:
    async with cookie_setter() as (url, shown), Deliverer(store.webhooks, store.apps, "node") as deliverer:
        for key in ("app-a", "app-b"):
            await store.apps.create(AppFacts(key=key, secrets=("secret-1",), webhook_url=url), NOW)
            await store.deactivation.reactivate(key, [b"ann"], NOW, 0)
            await deliverer.run_once()
            await deliverer.drain()
    assert shown == ["", ""]


async def test_results_of_many_partitions_take_no_more_room_than_there_is(store: Store) -> None:
    """Past it they would wait for connections while their time runs, those of Apps whose receivers are well too."""
    async with receiving() as receiver:
        receiver.statuses = [0]
        app = AppFacts(key="app-a", secrets=("secret-1",), webhook_url=f"{receiver.url}/hook")
        await store.apps.create(app, NOW)
        await store.deactivation.reactivate("app-a", [b"%d" % number for number in range(400)], NOW, 0)
        async with Deliverer(store.webhooks, store.apps, "node") as deliverer:
            taken = [await deliverer.run_once() for _ in range(PARTITIONS)]
            assert sum(taken) == MAX_UNDER_WAY


@pytest.mark.parametrize("room", [1, 5, 16, 17])
async def test_every_partition_gets_its_turn(store: Store, room: int) -> None:
    """Whatever the room, and although the others have results too."""
    await store.deactivation.reactivate("app-a", [b"%d" % number for number in range(400)], NOW, 0)
    seen: set[int] = set()
    while len(seen) < PARTITIONS:
        taken = await store.webhooks.take("node", room, (60_000,))
        assert 0 < len(taken) <= room
        seen |= {hook.partition for hook in taken}
