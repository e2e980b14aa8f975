"""Pages that stay fresh: the stream sends what changed, ends with the session and its App, and there are only so many."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gate.console import live
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.console.conftest import Place
from tests.console.visitor import Visitor, begin_operator
from tests.http.world import now_ms, running_world

DEADLINE_S = 10
pytestmark = pytest.mark.timeout(60)


async def test_a_part_is_sent_at_once_and_when_it_has_changed(place: Place) -> None:
    visitor = await place.visitor("viewer")
    async with asyncio.timeout(DEADLINE_S), visitor.live("overview/live") as events:
        first = await anext(events)
        assert first[0] == "now" and "<html" not in first[1]
        await place.gateway_session(b"alice")
        async for _, data in events:
            if '<dd id="users">1</dd>' in data:
                break


async def test_the_stream_ends_with_the_session(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "VERIFIED_EVERY_MS", 0)
    visitor = await place.visitor()
    token = (await visitor.app("overview")).form_token
    async with asyncio.timeout(DEADLINE_S), visitor.live("overview/live") as events:
        await anext(events)
        assert (await visitor.post("/console/sign-out", {"form_token": token})).status == 303
        assert [event async for event, _ in events][-1] == "end"


async def test_the_stream_ends_with_the_app(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "VERIFIED_EVERY_MS", 0)
    visitor, world = await place.visitor(), place.world
    async with asyncio.timeout(DEADLINE_S), visitor.live("overview/live") as events:
        await anext(events)
        written = await world.store.apps.remove(world.app.key, now_ms())
        assert await world.node.acks.wait(written, 5_000) == "all"
        assert [event async for event, _ in events][-1] == "end"


async def test_an_operator_and_a_process_have_only_so_many(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_OF_OPERATOR", 2)
    monkeypatch.setattr(live, "MAX_OPEN", 3)
    visitor, other = await place.visitor(), await place.visitor()
    await wait_until_async(lambda: not live.OPEN.many, DEADLINE_S, "the streams of other tests to be counted off")
    async with AsyncExitStack() as stack:
        for one in (visitor, visitor, other):
            await anext(await stack.enter_async_context(one.live("overview/live")))
        for one in (visitor, other):
            refused = await one.app("overview/live")
            assert (refused.status, "renew themselves" in refused.text) == (503, True)
    await wait_until_async(lambda: not live.OPEN.many, DEADLINE_S, "the streams to be counted off")
    assert "Users online" in await visitor.part("overview/live")


async def test_links_of_a_part_are_below_the_public_path(
    tmp_path: Path, private_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_world(private_redis.url, tmp_path, public_url="https://im.example/gate") as world:
        await world.begin_app()
        visitor = Visitor(world, await begin_operator(world))
        await visitor.sign_in(Origin="https://im.example")
        async with visitor.live("overview/live") as events:
            _, data = await anext(events)
        assert '="/console/' not in data
