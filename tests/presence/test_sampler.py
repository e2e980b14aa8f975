"""Samples are taken by any of many nodes, of every App, in the slot in which Redis is back too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gate.core.model import AppFacts
from gate.core.presence import SAMPLE_EVERY_MS
from gate.presence import sampler as sampler_module
from gate.presence.sampler import Sampler
from gate.store.presence import PresenceStore
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.presence.played import Gateway, presence_on

APPS = [AppFacts(key=f"app-{number}", secrets=("s",)) for number in range(3)]


@pytest.fixture
async def presence(redis_server: RedisServer) -> AsyncIterator[PresenceStore]:
    store = presence_on(redis_server.url)
    yield store
    await store.client.aclose()


async def test_every_app_is_sampled_and_the_next_slot_waited_for(presence: PresenceStore) -> None:
    for app in APPS:
        await (await Gateway(presence, app).lease()).open(b"u")
    before_ms = await presence.server_ms()
    exported: dict[tuple[str, ...], int] = {}
    next_ms = await Sampler(presence, exported.update).sample()
    after_ms = await presence.server_ms()
    taken = [await presence.history(app.key, 0) for app in APPS]
    assert [(len(some), some[0].total) for some in taken] == [(1, 1)] * len(APPS)
    assert exported == {(app.key, "iOS"): 1 for app in APPS}
    slot_ms = (after_ms + next_ms) // SAMPLE_EVERY_MS * SAMPLE_EVERY_MS
    assert before_ms + next_ms <= slot_ms, "the moment that it names is the beginning of a slot"


async def test_it_goes_on_once_redis_is_back(
    presence: PresenceStore, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler_module, "RETRY_MS", 10)
    await Gateway(presence, APPS[0]).lease()
    impatient = presence_on(redis_server.url, deadline_ms=50)
    with redis_server.paused():
        running = asyncio.create_task(Sampler(impatient).run())
        await wait_until_async(lambda: impatient.client.problem, 10, "the sampler to notice")
    await wait_until_async(lambda: presence.history(APPS[0].key, 0), 10, "a sample")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await impatient.client.aclose()
