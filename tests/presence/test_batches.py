"""Calls of one moment travel together, and how many pipelines may be under way says what a moment is."""

from __future__ import annotations

import asyncio

import pytest

from gate.errors import StoreUnavailable
from gate.presence.gateway import Batches
from harness.servers import RedisServer
from tests.presence.played import presence_on

PAUSE_MS = 300
"""For this long the server answers no client, so calls submitted meanwhile can't have been answered."""


@pytest.mark.parametrize(("most_under_way", "is_together"), [(1, True), (4, False)])
async def test_what_comes_while_the_server_is_busy_waits_for_room_together(
    redis_server: RedisServer, most_under_way: int, is_together: bool
) -> None:
    store = presence_on(redis_server.url)
    await store.client.read(("PING",))  # connected
    batches = Batches(store.slices, most_under_way)
    redis_server.client.client_pause(PAUSE_MS, all=True)
    pending = []
    for nth in range(3):
        pending.append(batches.submit(store.asking_online("default", [b"%d" % nth]), len))
        await asyncio.sleep(0)  # its turn of the loop is over
    first, second, third = (one.arrival for one in pending)
    assert not first.done() and first is not second
    assert (second is third) is is_together
    assert [await one.wait() for one in pending] == [1, 1, 1]
    await batches.aclose()
    await store.client.aclose()


@pytest.mark.parametrize(("asks_only", "outcome"), [(True, "not-written"), (False, "unknown")])
async def test_a_question_that_was_not_answered_may_not_still_be_carried_out(
    redis_server: RedisServer, asks_only: bool, outcome: str
) -> None:
    """Though it went along with what may."""
    store = presence_on(redis_server.url)
    await store.client.read(("PING",))  # connected
    batches = Batches(store.slices)
    with redis_server.paused():
        pending = batches.submit(store.asking_online("default", [b"ann"]), len, asks_only)
        with pytest.raises(StoreUnavailable) as caught:
            await pending.wait()
        assert caught.value.outcome == outcome
    await batches.aclose()
    await store.client.aclose()
