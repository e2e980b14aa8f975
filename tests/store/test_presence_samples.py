"""Samples of the online counts: one a slot from any node, kept for an hour; a step of the server's clock does not stop them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gate.core.model import AppFacts
from gate.core.presence import MAX_PAIRS_A_SAMPLE, MAX_PLATFORMS_SUMMED, MAX_SAMPLES, SAMPLE_EVERY_MS, Sample
from gate.store import presence_keys as keys
from gate.store.address import parse_address
from gate.store.presence import PresenceStore
from harness.servers import RedisServer
from tests.presence.played import PATIENCE_MS, Gateway
from tests.store.played_clock import PlayedClock, put_away, set_clock

APP = AppFacts(key="default", secrets=("s",))
NOON_MS = 1_800_000_000_000
"""The beginning of a slot."""


class Server:
    """A server whose clock the test sets, and a Gateway's lease on it."""

    def __init__(self, redis: RedisServer) -> None:
        self.client = redis.client
        self.url = redis.url
        self.store = self.another_node()
        self.set_ms(NOON_MS)

    def another_node(self) -> PresenceStore:
        return PresenceStore(PlayedClock(parse_address(self.url), PATIENCE_MS, PATIENCE_MS))

    def set_ms(self, now_ms: int) -> None:
        set_clock(self.client, APP.key, now_ms * 1_000)

    async def sample_at(self, now_ms: int) -> bool:
        self.set_ms(now_ms)
        return await self.store.sample(APP.key)

    async def moments(self) -> list[int]:
        return [one.at_ms - NOON_MS for one in await self.store.history(APP.key, 0)]


@pytest.fixture
async def server(each_redis: RedisServer) -> AsyncIterator[Server]:
    server = Server(each_redis)
    yield server
    put_away(server.client, APP.key)
    await server.store.client.aclose()


@pytest.fixture
async def gateway(server: Server) -> Gateway:
    return await Gateway(server.store, APP).lease()


async def test_a_sample_says_what_the_counts_said(server: Server, gateway: Gateway) -> None:
    other = await Gateway(server.store, APP, b"1:iOS:edge").lease()
    await gateway.open_many([b"a", b"b"], "iOS")
    await other.open_many([b"a", b"c", b"d"], "Web")
    assert await server.sample_at(NOON_MS + 7)
    counts = await server.store.counts(APP.key)
    (sample,) = await server.store.history(APP.key, 0)
    assert sample == Sample(4, {(b"edge-1", "iOS"): 2, (b"1:iOS:edge", "Web"): 3}, NOON_MS + 7)
    assert (sample.sessions, sample.users, sample.total) == (counts.sessions, counts.users, counts.total)
    await server.store.end_lease(APP.key, other.name, other.epoch)
    assert await server.sample_at(NOON_MS + SAMPLE_EVERY_MS)
    assert (await server.store.history(APP.key, 0))[1].by_platform() == {"iOS": 2}


async def test_of_many_nodes_one_lands_in_a_slot(server: Server, gateway: Gateway) -> None:
    nodes = [server.another_node() for _ in range(4)]
    for slot in range(3):
        for ms in (0, 1, SAMPLE_EVERY_MS - 1):
            server.set_ms(NOON_MS + slot * SAMPLE_EVERY_MS + ms)
            landed = await asyncio.gather(*(node.sample(APP.key) for node in nodes))
            assert sum(landed) == (ms == 0)
    assert await server.moments() == [0, SAMPLE_EVERY_MS, 2 * SAMPLE_EVERY_MS]
    for node in nodes:
        await node.client.aclose()


async def test_an_hour_and_some_is_kept_and_asked_for_from_a_moment_on(server: Server, gateway: Gateway) -> None:
    for slot in range(MAX_SAMPLES + 5):
        await server.sample_at(NOON_MS + slot * SAMPLE_EVERY_MS + 3)
    moments = await server.moments()
    assert len(moments) == MAX_SAMPLES and moments[0] == 5 * SAMPLE_EVERY_MS + 3
    assert (MAX_SAMPLES - 1) * SAMPLE_EVERY_MS > 3_600_000
    assert 0 < server.client.pttl(keys.samples(APP.key)) <= 2 * MAX_SAMPLES * SAMPLE_EVERY_MS
    last_ms = NOON_MS + moments[-1]
    for since_ms, many in ((last_ms, 1), (last_ms + 1, 0), (last_ms - 1, 1), (last_ms - SAMPLE_EVERY_MS, 2)):
        assert len(await server.store.history(APP.key, since_ms)) == many


@pytest.mark.parametrize("back_slots", [1, 2, 100, 10_000])
async def test_after_a_clock_was_set_back_samples_of_the_future_are_dropped(
    server: Server, gateway: Gateway, back_slots: int
) -> None:
    for slot in range(5):
        assert await server.sample_at(NOON_MS + slot * SAMPLE_EVERY_MS)
    now_ms = NOON_MS + (4 - back_slots) * SAMPLE_EVERY_MS + 9
    landed = await server.sample_at(now_ms)
    assert landed is (back_slots > 4), "there is one of that slot already, where the clock stood there before"
    kept = [slot * SAMPLE_EVERY_MS for slot in range(5) if slot <= 4 - back_slots]
    assert await server.moments() == kept + [now_ms - NOON_MS] * landed
    assert await server.sample_at(now_ms + SAMPLE_EVERY_MS)
    assert not await server.sample_at(now_ms + SAMPLE_EVERY_MS + 1)
    assert (await server.moments())[-1] == now_ms + SAMPLE_EVERY_MS - NOON_MS


async def test_what_many_gateways_hold_is_bounded(server: Server) -> None:
    platforms = [f"p{number:02d}" for number in range(MAX_PLATFORMS_SUMMED + 3)]
    gateways = [await Gateway(server.store, APP, b"g%02d" % number).lease() for number in range(10)]
    for number, gateway in enumerate(gateways):
        for platform in platforms:
            await gateway.open(b"u%d" % number, platform)
    big = await Gateway(server.store, APP, b"z-big").lease()
    await big.open_many([b"v", b"w"], "iOS")
    await server.sample_at(NOON_MS)
    (sample,) = await server.store.history(APP.key, 0)
    counts = await server.store.counts(APP.key)
    assert (sample.users, sample.total) == (counts.users, counts.total)
    named = {pair: many for pair, many in sample.sessions.items() if pair[0]}
    assert len(named) == MAX_PAIRS_A_SAMPLE and named[b"z-big", "iOS"] == 2
    assert named.items() <= counts.sessions.items()
    summed = [platform for gateway, platform in sample.sessions if not gateway]
    assert len(summed) == MAX_PLATFORMS_SUMMED + 1 and "" in summed


async def test_an_app_without_a_gateway_leaves_no_key(server: Server) -> None:
    assert not await server.sample_at(NOON_MS)
    assert await server.store.history(APP.key, 0) == []
    assert not server.client.exists(keys.samples(APP.key))


async def test_all_of_it_goes_with_the_app(server: Server, gateway: Gateway) -> None:
    await server.sample_at(NOON_MS)
    await server.store.remove_app(APP.key)
    assert not await server.sample_at(NOON_MS + SAMPLE_EVERY_MS)
    assert not server.client.exists(keys.samples(APP.key))
