"""The sweeper: it judges leases by their beats, announces departures once, and delays no client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from gate.core.model import AppFacts
from gate.core.presence import Cursor
from gate.core.sessions import OpenSession
from gate.errors import StoreUnavailable
from gate.presence import sweeper as sweeper_module
from gate.presence.sweeper import MOST_WATCHED_MS, TIDY_EVERY_MS, Sweeper
from gate.store import presence as presence_module
from gate.store.feed import Feed
from gate.store.presence import PresenceStore
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.presence.played import Gateway, presence_on

TTL_MS = 1_000
APP = AppFacts(key="app", secrets=("secret-of-the-app",), close_sessions_on_expire=True)
OTHER = AppFacts(key="other", secrets=("secret-of-the-other",))
BEGINNING = Cursor("0", 0, 0)


class HandClock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now_ms = 5_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
async def presence(redis_server: RedisServer) -> AsyncIterator[PresenceStore]:
    store = presence_on(redis_server.url)
    yield store
    await store.client.aclose()


async def kinds(presence: PresenceStore) -> list[str]:
    feed = Feed(presence.client, APP.key)
    return [event.kind for event in await feed.read(BEGINNING, 1_000)]


async def looks(sweeper: Sweeper) -> bool:
    """Whether a look reached Redis."""
    with suppress(StoreUnavailable):
        await sweeper.look()
        return True
    return False


class TestSweeper:
    async def test_a_lease_that_does_not_move_is_ended_and_one_that_does_is_not(self, presence: PresenceStore) -> None:
        clock = HandClock()
        sweeper = Sweeper(presence, TTL_MS, clock=clock)
        dead, live = await Gateway(presence, APP, b"dead").lease(), await Gateway(presence, APP, b"live").lease()
        await dead.open_many([b"u-%d" % nth for nth in range(450)])
        await live.open(b"v")
        for _ in range(4):
            await sweeper.look()
            clock.now_ms += TTL_MS // 3
            await presence.lease(APP.key, live.name, live.epoch)
        await sweeper.look()
        assert await presence.online(APP.key, [b"u-0", b"v"]) == [False, True]
        counts = await presence.counts(APP.key)
        assert (counts.users, counts.total, counts.sweeping) == (1, 1, 0)

    async def test_a_failed_look_restarts_the_watch(self, presence: PresenceStore, redis_server: RedisServer) -> None:
        clock = HandClock()
        sweeper = Sweeper(presence, TTL_MS, clock=clock)
        gateway = await Gateway(presence, APP).lease()
        await gateway.open(b"u")
        await sweeper.look()
        running = asyncio.create_task(sweeper.run())
        with redis_server.paused():
            impatient = presence_on(redis_server.url, deadline_ms=50)
            sweeper.store = impatient
            await wait_until_async(lambda: not sweeper.seen, 10, "the sweeper to notice")
            clock.now_ms += 10 * TTL_MS
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        sweeper.store = presence
        await wait_until_async(sweeper.look, 10, "a look")
        assert await presence.online(APP.key, [b"u"]) == [True]
        clock.now_ms += TTL_MS
        await sweeper.look()
        assert await presence.online(APP.key, [b"u"]) == [False]
        await impatient.client.aclose()

    async def test_how_old_beats_become_is_reported_before_a_lease_is_lost(self, presence: PresenceStore) -> None:
        clock, reported = HandClock(), list[tuple[float, dict[str, int]]]()
        sweeper = Sweeper(
            presence, TTL_MS, clock=clock, report=lambda oldest, held: reported.append((oldest, dict(held)))
        )
        gateways = [await Gateway(presence, APP, name).lease() for name in (b"late", b"live")]
        await sweeper.look()
        clock.now_ms += 800
        await presence.lease(APP.key, b"live", gateways[1].epoch)
        await sweeper.look()
        assert reported[-1] == (0.8, {APP.key: 2})
        clock.now_ms += 199
        await sweeper.look()
        assert reported[-1] == (0.999, {APP.key: 2})
        clock.now_ms += 1
        for _ in range(10):
            await presence.lease(APP.key, b"live", gateways[1].epoch)
            await sweeper.look()
            clock.now_ms += 300
        assert reported[-1] == (0.3, {APP.key: 1}), "the one that was lost is no concern any more"

    async def test_leases_that_ended_long_ago_are_dropped_in_time(
        self, presence: PresenceStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = HandClock()
        sweeper = Sweeper(presence, 100 * TTL_MS, clock=clock)
        old = await Gateway(presence, APP, b"old").lease()
        await Gateway(presence, APP, b"live").lease()
        await old.open(b"u")
        await presence.end_lease(APP.key, old.name, old.epoch)
        await sweeper.look()
        assert len((await presence.leases([APP.key]))[0]) == 2
        monkeypatch.setattr(presence_module, "LEASE_KEPT_MS", -1)
        await sweeper.look()
        assert len((await presence.leases([APP.key]))[0]) == 2, "that is not looked at all the time"
        clock.now_ms += TIDY_EVERY_MS
        await sweeper.look()
        assert [lease.gateway for lease in (await presence.leases([APP.key]))[0]] == [b"live"]

    async def test_time_without_a_watcher_ends_nothing(self, presence: PresenceStore) -> None:
        """The machine was stopped: its Gateways could renew nothing, and are about to."""
        clock = HandClock()
        sweeper = Sweeper(presence, 3 * MOST_WATCHED_MS, clock=clock)
        gateway = await Gateway(presence, APP).lease()
        await gateway.open(b"u")
        await sweeper.look()
        clock.now_ms += 60 * MOST_WATCHED_MS
        await sweeper.look()
        assert await presence.online(APP.key, [b"u"]) == [True]
        for _ in range(2):
            clock.now_ms += MOST_WATCHED_MS
            await sweeper.look()
        assert await presence.online(APP.key, [b"u"]) == [False]

    async def test_a_large_sweep_of_one_app_does_not_keep_another_waiting(
        self, presence: PresenceStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweeper_module, "SCRIPTS_A_LOOK", 2)
        monkeypatch.setattr(presence_module, "SWEPT_A_SCRIPT", 10)
        sweeper = Sweeper(presence, 60_000)
        large, other = await Gateway(presence, APP).lease(), await Gateway(presence, OTHER).lease()
        await large.open_many([b"u-%d" % nth for nth in range(100)])
        await other.open(b"v")
        await presence.kick(OTHER.key, [b"v"], "kicked")
        await presence.end_lease(APP.key, large.name, large.epoch)
        looks = 1
        assert await sweeper.look() == 1, "there is more to do"
        assert [event.kind for event in await Feed(presence.client, OTHER.key).read(BEGINNING, 10)][-1] == "offline"
        while (await presence.counts(APP.key)).sweeping:
            await sweeper.look()
            looks += 1
        assert looks == 5

    async def test_who_came_back_before_redis_forgot_it_is_not_announced_as_gone(
        self, private_redis: RedisServer, tmp_path: Path
    ) -> None:
        """Its Gateway is about to bring the Session back, with its next renewal."""
        presence = presence_on(private_redis.url)
        clock = HandClock()
        sweeper = Sweeper(presence, 3 * MOST_WATCHED_MS, clock=clock)
        gateway = await Gateway(presence, APP).lease()
        await sweeper.look()
        await gateway.open_many([b"u", b"gone"])
        await presence.kick(APP.key, [b"u", b"gone"], "kicked")
        private_redis.save_copy(tmp_path / "before")
        back = OpenSession(APP, gateway.name, gateway.epoch, b"u", "A" * 11, "iOS", "", 0, "", 0)
        await presence.exchange(presence.opening(back))
        await asyncio.to_thread(private_redis.restart_from, tmp_path / "before")
        await wait_until_async(lambda: looks(sweeper), 10, "Redis to be back")
        await sweeper.look()
        await presence.exchange(presence.opening(replace(back, since_ms=1)))
        assert await kinds(presence) == ["online", "online", "kick", "kick"]
        for _ in range(3):
            clock.now_ms += MOST_WATCHED_MS
            await sweeper.look()
        (departure,) = (await Feed(presence.client, APP.key).read(BEGINNING, 10))[4:]
        assert (departure.kind, departure.user) == ("offline", b"gone")
        await presence.client.aclose()

    async def test_what_is_gone_is_not_remembered(self, presence: PresenceStore) -> None:
        sweeper = Sweeper(presence, 60_000)
        await Gateway(presence, APP).lease()
        await sweeper.look()
        await presence.remove_app(APP.key)
        await sweeper.look()
        assert not sweeper.seen

    async def test_a_departure_is_announced_once_and_a_flap_never(self, presence: PresenceStore) -> None:
        sweepers = [Sweeper(presence, 60_000) for _ in range(2)]
        gateway = await Gateway(presence, APP).lease()
        session = await gateway.open(b"u")
        await gateway.close(session)
        session = await gateway.open(b"u")
        await gateway.close(session)

        async def is_announced() -> bool:
            await asyncio.gather(*(sweeper.look() for sweeper in sweepers))
            return "offline" in await kinds(presence)

        await wait_until_async(is_announced, 10, "the departure")
        await asyncio.gather(*(sweeper.look() for sweeper in sweepers))
        assert await kinds(presence) == ["online", "offline"]
