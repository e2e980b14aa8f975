"""What runs behind Presence: leases judged by their beats, departures announced once, and Sessions closed for the Changelog."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.core.presence import Cursor
from gate.errors import StoreUnavailable
from gate.presence import sweeper as sweeper_module
from gate.presence.kicks import Kicker
from gate.presence.sweeper import MOST_WATCHED_MS, TIDY_EVERY_MS, Sweeper
from gate.store import presence as presence_module
from gate.store import presence_keys as keys
from gate.store.feed import Feed
from gate.store.presence import Opening, PresenceStore, opened
from gate.store.store import Store
from tests.harness.servers import RedisServer
from tests.harness.waiting import wait_until_async
from tests.presence.played import PATIENCE_MS, Gateway, presence_on

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


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    store = await Store.connect(redis_server.url, partitions=2, deadline_ms=PATIENCE_MS)
    await store.apps.create(APP, wall_ms())
    yield store
    await store.aclose()


async def kinds(presence: PresenceStore) -> list[str]:
    feed = Feed(presence.client, APP.key)
    return [event.kind for event in await feed.read(BEGINNING, 1_000)]


async def opened_at(gateway: Gateway, log_epoch: str, log_seq: int) -> str:
    """The word that opening a Session of `u` answers, whose Token was verified there."""
    opening = Opening(APP, gateway.name, gateway.epoch, b"u", "A" * 11, "iOS", "", 0, log_epoch, log_seq)
    (reply,) = await gateway.store.client.write([gateway.store.opening(opening)])
    return opened(reply)


async def goes_offline(presence: PresenceStore, user: bytes) -> None:
    async def is_offline() -> bool:
        with suppress(StoreUnavailable):
            return not await presence.is_online(APP.key, user)
        return False

    await wait_until_async(is_offline, 10, "the User to be put out")


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

    async def test_a_look_that_failed_begins_the_watch_anew(
        self, presence: PresenceStore, redis_server: RedisServer
    ) -> None:
        clock = HandClock()
        sweeper = Sweeper(presence, TTL_MS, clock=clock)
        gateway = await Gateway(presence, APP).lease()
        await gateway.open(b"u")
        await sweeper.look()
        running = asyncio.create_task(sweeper.run())
        with redis_server.paused():
            impatient = presence_on(redis_server.url, deadline_ms=50)
            sweeper._store = impatient
            await wait_until_async(lambda: not sweeper._seen, 10, "the sweeper to notice")
            clock.now_ms += 10 * TTL_MS
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        sweeper._store = presence
        await wait_until_async(sweeper.look, 10, "a look")
        assert await presence.online(APP.key, [b"u"]) == [True]
        clock.now_ms += TTL_MS
        await sweeper.look()
        assert await presence.online(APP.key, [b"u"]) == [False]
        await impatient.client.aclose()

    async def test_how_old_beats_become_is_told_before_a_lease_is_lost(self, presence: PresenceStore) -> None:
        clock, told = HandClock(), list[tuple[float, dict[str, int]]]()
        sweeper = Sweeper(presence, TTL_MS, clock=clock, tell=lambda oldest, held: told.append((oldest, dict(held))))
        gateways = [await Gateway(presence, APP, name).lease() for name in (b"late", b"live")]
        await sweeper.look()
        clock.now_ms += 800
        await presence.lease(APP.key, b"live", gateways[1].epoch)
        await sweeper.look()
        assert told[-1] == (0.8, {APP.key: 2})
        clock.now_ms += 199
        await sweeper.look()
        assert told[-1] == (0.999, {APP.key: 2})
        clock.now_ms += 1
        for _ in range(10):
            await presence.lease(APP.key, b"live", gateways[1].epoch)
            await sweeper.look()
            clock.now_ms += 300
        assert told[-1] == (0.3, {APP.key: 1}), "the one that was lost is no concern any more"

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

    async def test_time_in_which_nobody_watched_ends_nothing(self, presence: PresenceStore) -> None:
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

    async def test_what_is_gone_is_not_remembered(self, presence: PresenceStore) -> None:
        sweeper = Sweeper(presence, 60_000)
        await Gateway(presence, APP).lease()
        await sweeper.look()
        await presence.remove_app(APP.key)
        await sweeper.look()
        assert not sweeper._seen

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


class TestKicks:
    async def test_each_act_closes_what_it_should(self, presence: PresenceStore, store: Store) -> None:
        kicker = Kicker(store.changelog, store.apps, store.users, presence)
        gateway = await Gateway(presence, APP).lease()
        users = [b"banned", b"gone", b"revoked", b"past", b"other"]
        await gateway.open_many(users)
        await kicker.follow_from_noted()
        now_ms = wall_ms()
        await store.bans.impose(APP.key, [b"banned"], now_ms + 60_000, now_ms)
        await store.bans.impose(APP.key, [b"past"], now_ms - 1, now_ms)
        await store.deactivation.deactivate(APP.key, [b"gone"], now_ms)
        await store.users.revoke_tokens(APP.key, [b"revoked"], now_ms, now_ms)
        await kicker.follow_once(1)
        assert await presence.online(APP.key, users) == [False, False, False, True, True]

    async def test_how_long_a_change_waited_is_told_where_it_closed_anything(
        self, presence: PresenceStore, store: Store
    ) -> None:
        lags: list[int] = []
        kicker = Kicker(store.changelog, store.apps, store.users, presence, timed=lags.append)
        gateway = await Gateway(presence, APP).lease()
        await gateway.open_many([b"early", b"late"])
        await kicker.follow_from_noted()
        now_ms = wall_ms()
        for user, ago_ms in ((b"nobody", 90_000), (b"early", 60_000), (b"late", -60_000)):
            await store.bans.impose(APP.key, [user], now_ms + 60_000, now_ms - ago_ms)
            await kicker.follow_once(1)
        assert len(lags) == 2 and 60_000 <= lags[0] < 120_000
        assert lags[1] == 0, "of a clock that is ahead"

    async def test_what_happened_while_nobody_followed_is_done_by_the_next(
        self, presence: PresenceStore, store: Store
    ) -> None:
        gateway = await Gateway(presence, APP).lease()
        await Kicker(store.changelog, store.apps, store.users, presence).follow_from_noted()
        await gateway.open(b"u")
        await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())
        later = Kicker(store.changelog, store.apps, store.users, presence)
        await later.follow_from_noted()
        await later.follow_once(1)
        assert await presence.online(APP.key, [b"u"]) == [False]

    async def test_where_the_changelog_has_a_hole_everybody_online_is_looked_at(
        self, presence: PresenceStore, store: Store, redis_server: RedisServer
    ) -> None:
        gateway = await Gateway(presence, APP).lease()
        kicker = Kicker(store.changelog, store.apps, store.users, presence)
        await kicker.follow_from_noted()
        await gateway.open_many([b"u", b"v"])
        await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())
        for partition in range(2):
            redis_server.client.xtrim(f"gate:{{{partition}}}:log", maxlen=0)
        await store.bans.impose(APP.key, [b"w-%d" % nth for nth in range(20)], wall_ms() + 60_000, wall_ms())
        await kicker.follow_once(1)
        assert await presence.online(APP.key, [b"u", b"v"]) == [False, True]

    async def test_a_connect_that_was_verified_before_the_ban_is_sent_back(
        self, presence: PresenceStore, store: Store
    ) -> None:
        gateway = await Gateway(presence, APP).lease()
        kicker = Kicker(store.changelog, store.apps, store.users, presence)
        await kicker.follow_from_noted()
        await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())
        await kicker.follow_once(1)
        opening = Opening(APP, gateway.name, gateway.epoch, b"u", "A" * 11, "iOS", "", 0, "", 0)
        (reply,) = await presence.client.write([presence.opening(opening)])
        assert opened(reply) == "barred"
        assert await presence.online(APP.key, [b"u"]) == [False]

    async def test_who_connects_while_everybody_is_looked_at_is_verified_on_facts_that_are_as_new(
        self, presence: PresenceStore, store: Store, redis_server: RedisServer
    ) -> None:
        """A page that was looked at before it came does not hold it."""
        gateway = await Gateway(presence, APP).lease()
        kicker = Kicker(store.changelog, store.apps, store.users, presence)
        await kicker.follow_from_noted()
        await gateway.open(b"v")
        (at,) = (await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())).revisions
        redis_server.client.hset(keys.KICKS, at.partition, f"{at.epoch}:{at.seq + 100}:0")
        again = Kicker(store.changelog, store.apps, store.users, presence)
        await again.follow_from_noted()
        assert await opened_at(gateway, at.epoch, at.seq - 1) == "barred"
        assert await opened_at(gateway, at.epoch, at.seq) == "ok"

    async def test_facts_that_redis_wrote_anew_while_nobody_followed_are_looked_at(
        self, presence: PresenceStore, store: Store, redis_server: RedisServer
    ) -> None:
        """It lost the newest Changes, and wrote as many others, before anybody asked: the number alone shows nothing."""
        gateway = await Gateway(presence, APP).lease()
        await gateway.open(b"u")
        await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())
        heads = await store.changelog.heads()
        await presence.note_kicked({at: head._replace(tip="f" * 16) for at, head in enumerate(heads)})
        await Kicker(store.changelog, store.apps, store.users, presence).follow_from_noted()
        assert await presence.online(APP.key, [b"u"]) == [False]

    async def test_what_a_presence_redis_forgot_of_a_ban_is_done_again(
        self, store: Store, private_redis: RedisServer, tmp_path: Path
    ) -> None:
        """It came back from an older file, from before the kick; the facts' Redis was there all the time."""
        presence = presence_on(private_redis.url)
        kicker = Kicker(store.changelog, store.apps, store.users, presence)
        running = asyncio.create_task(kicker.run())
        gateway = await Gateway(presence, APP).lease()
        await gateway.open(b"u")
        await wait_until_async(lambda: private_redis.client.hlen(keys.KICKS), 10, "the kicker to begin")
        private_redis.save_copy(tmp_path / "before")
        await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())
        await goes_offline(presence, b"u")
        await asyncio.to_thread(private_redis.restart_from, tmp_path / "before")
        await goes_offline(presence, b"u")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await presence.client.aclose()

    async def test_a_presence_redis_that_lost_all_has_no_kicks_left_out(
        self, presence: PresenceStore, store: Store, redis_server: RedisServer
    ) -> None:
        kicker = Kicker(store.changelog, store.apps, store.users, presence)
        await kicker.follow_from_noted()
        (at,) = (await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())).revisions
        redis_server.client.delete(keys.KICKS)
        await kicker.follow_from_noted()
        await kicker.follow_once(1)
        gateway = await Gateway(presence, APP).lease()
        assert await opened_at(gateway, at.epoch, at.seq - 1) == "barred"

    async def test_many_at_once_are_not_asked_for_one_by_one(
        self, presence: PresenceStore, store: Store, redis_server: RedisServer
    ) -> None:
        """Whoever is banned behind them would wait for all of that."""
        kicker = Kicker(store.changelog, store.apps, store.users, presence)
        gateway = await Gateway(presence, APP).lease()
        users = [b"u%d" % nth for nth in range(100)]
        await gateway.open_many(users)
        await kicker.follow_from_noted()
        await store.users.revoke_tokens(APP.key, users, wall_ms(), wall_ms())
        await store.users.erase(APP.key, users, wall_ms())
        redis_server.client.config_resetstat()
        await kicker.follow_once(1)
        assert not any(await presence.online(APP.key, users))
        asked = redis_server.client.info("commandstats")
        assert asked["cmdstat_hget"]["calls"] + asked["cmdstat_evalsha"]["calls"] < 40
        assert not redis_server.client.exists(keys.base(APP.key) + b"seen")

    async def test_one_that_is_late_closes_nobody_whose_ban_was_lifted_or_who_is_back(
        self, presence: PresenceStore, store: Store
    ) -> None:
        gateway = await Gateway(presence, APP).lease()
        late = Kicker(store.changelog, store.apps, store.users, presence)
        await late.follow_from_noted()
        now_ms = wall_ms()
        await store.bans.impose(APP.key, [b"u", b"still"], now_ms + 60_000, now_ms)
        await store.bans.lift(APP.key, [b"u"], now_ms)
        await store.deactivation.deactivate(APP.key, [b"v"], now_ms)
        for job in await store.jobs.claim(wall_ms()):
            await store.jobs.run(job, wall_ms())
        await store.deactivation.reactivate(APP.key, [b"v"], now_ms + 1, 0)
        await gateway.open_many([b"u", b"v", b"still"])
        back = Opening(APP, gateway.name, gateway.epoch, b"v", "A" * 11, "Web", "", now_ms + 60_000, "", 0)
        await presence.client.write([presence.opening(back)])
        await late.follow_once(1)
        assert await presence.online(APP.key, [b"u", b"v", b"still"]) == [True, True, False]
        (of_v,) = await presence.presences(APP.key, [b"v"])
        assert [one.platform for one in of_v.sessions] == ["Web"], "what came with a Token from before is closed"
