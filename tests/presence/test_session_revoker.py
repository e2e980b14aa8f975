"""The session revoker: closes the Sessions that the Changelog revokes, also if it is late or a Redis lost or restored data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.core.sessions import OpenSession
from gate.errors import StoreUnavailable
from gate.presence.session_revoker import SessionRevoker
from gate.store import presence_keys as keys
from gate.store.presence import PresenceStore, opened
from gate.store.store import Store
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.presence.played import PATIENCE_MS, Gateway, presence_on

APP = AppFacts(key="app", secrets=("secret-of-the-app",), close_sessions_on_expire=True)


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


async def opened_at(gateway: Gateway, log_epoch: str, log_seq: int) -> str:
    """The word that opening a Session of `u` answers, whose Token was verified there."""
    opening = OpenSession(APP, gateway.name, gateway.epoch, b"u", "A" * 11, "iOS", "", 0, log_epoch, log_seq)
    (reply,) = await gateway.store.exchange(gateway.store.opening(opening))
    return opened(reply)


async def goes_offline(presence: PresenceStore, user: bytes) -> None:
    async def is_offline() -> bool:
        with suppress(StoreUnavailable):
            return not await presence.is_online(APP.key, user)
        return False

    await wait_until_async(is_offline, 10, "the User to be disconnected")


async def let_in_late(presence: PresenceStore, store: Store) -> SessionRevoker:
    """A SessionRevoker that dropped the removed App, after which a node that has yet to see that let `u` into it."""
    kicker = SessionRevoker(store.changelog, store.apps, store.users, presence)
    await kicker.follow_from_noted()
    await store.apps.remove(APP.key, wall_ms())
    await kicker.follow_once(1)
    lagging = await Gateway(presence, APP).lease()
    await lagging.open(b"u")
    return kicker


async def is_forgotten(presence: PresenceStore, server: RedisServer) -> bool:
    return not server.client.keys(f"gate:{{{APP.key}}}:*") and not await presence.apps()


class TestKicks:
    async def test_each_act_closes_what_it_should(self, presence: PresenceStore, store: Store) -> None:
        kicker = SessionRevoker(store.changelog, store.apps, store.users, presence)
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

    async def test_the_lag_of_a_change_is_reported_if_it_closed_a_session(
        self, presence: PresenceStore, store: Store
    ) -> None:
        lags: list[int] = []
        kicker = SessionRevoker(store.changelog, store.apps, store.users, presence, timed=lags.append)
        gateway = await Gateway(presence, APP).lease()
        await gateway.open_many([b"early", b"late"])
        await kicker.follow_from_noted()
        now_ms = wall_ms()
        for user, ago_ms in ((b"stranger", 90_000), (b"early", 60_000), (b"late", -60_000)):
            await store.bans.impose(APP.key, [user], now_ms + 60_000, now_ms - ago_ms)
            await kicker.follow_once(1)
        assert len(lags) == 2 and 60_000 <= lags[0] < 120_000
        assert lags[1] == 0, "of a clock that is ahead"

    async def test_changes_made_between_two_followers_are_applied_by_the_second(
        self, presence: PresenceStore, store: Store
    ) -> None:
        gateway = await Gateway(presence, APP).lease()
        await SessionRevoker(store.changelog, store.apps, store.users, presence).follow_from_noted()
        await gateway.open(b"u")
        await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())
        later = SessionRevoker(store.changelog, store.apps, store.users, presence)
        await later.follow_from_noted()
        await later.follow_once(1)
        assert await presence.online(APP.key, [b"u"]) == [False]

    async def test_what_happened_before_anybody_ever_followed_is_done_by_the_first(
        self, presence: PresenceStore, store: Store
    ) -> None:
        """A node's first start: it answers before this role is at its work."""
        gateway = await Gateway(presence, APP).lease()
        await gateway.open_many([b"u", b"v"])
        await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())
        await SessionRevoker(store.changelog, store.apps, store.users, presence).follow_from_noted()
        assert await presence.online(APP.key, [b"u", b"v"]) == [False, True]

    async def test_where_the_changelog_has_a_hole_everybody_online_is_looked_at(
        self, presence: PresenceStore, store: Store, redis_server: RedisServer
    ) -> None:
        gateway = await Gateway(presence, APP).lease()
        kicker = SessionRevoker(store.changelog, store.apps, store.users, presence)
        await kicker.follow_from_noted()
        await gateway.open_many([b"u", b"v"])
        await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())
        for partition in range(2):
            redis_server.client.xtrim(f"gate:{{{partition}}}:log", maxlen=0)
        await store.bans.impose(APP.key, [b"w-%d" % nth for nth in range(20)], wall_ms() + 60_000, wall_ms())
        await kicker.follow_once(1)
        assert await presence.online(APP.key, [b"u", b"v"]) == [False, True]

    async def test_sessions_opened_by_a_node_behind_an_apps_removal_are_dropped_too(
        self, presence: PresenceStore, store: Store, redis_server: RedisServer
    ) -> None:
        stays = AppFacts(key="stays", secrets=("s",))
        await store.apps.create(stays, wall_ms())
        other = await Gateway(presence, stays).lease()
        await other.open(b"v")
        kicker = await let_in_late(presence, store)
        await kicker.drop_removed()
        assert not redis_server.client.keys(f"gate:{{{APP.key}}}:*")
        assert await presence.apps() == [stays.key]
        assert await presence.online(stays.key, [b"v"]) == [True]

    async def test_sessions_of_a_removed_app_are_dropped_while_it_follows(
        self, presence: PresenceStore, store: Store, redis_server: RedisServer
    ) -> None:
        kicker = await let_in_late(presence, store)
        running = asyncio.create_task(kicker.run())
        try:
            await wait_until_async(lambda: is_forgotten(presence, redis_server), 10, "the App to be forgotten")
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def test_a_connect_that_was_verified_before_the_ban_is_sent_back(
        self, presence: PresenceStore, store: Store
    ) -> None:
        gateway = await Gateway(presence, APP).lease()
        kicker = SessionRevoker(store.changelog, store.apps, store.users, presence)
        await kicker.follow_from_noted()
        await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())
        await kicker.follow_once(1)
        opening = OpenSession(APP, gateway.name, gateway.epoch, b"u", "A" * 11, "iOS", "", 0, "", 0)
        (reply,) = await presence.exchange(presence.opening(opening))
        assert opened(reply) == "barred"
        assert await presence.online(APP.key, [b"u"]) == [False]

    async def test_a_connect_during_a_look_at_all_users_is_verified_on_facts_as_new(
        self, presence: PresenceStore, store: Store, redis_server: RedisServer
    ) -> None:
        """A page that was looked at before it came does not hold it."""
        gateway = await Gateway(presence, APP).lease()
        kicker = SessionRevoker(store.changelog, store.apps, store.users, presence)
        await kicker.follow_from_noted()
        await gateway.open(b"v")
        (at,) = (await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())).revisions
        redis_server.client.hset(keys.KICKS, at.partition, f"{at.epoch}:{at.seq + 100}:0")
        again = SessionRevoker(store.changelog, store.apps, store.users, presence)
        await again.follow_from_noted()
        assert await opened_at(gateway, at.epoch, at.seq - 1) == "barred"
        assert await opened_at(gateway, at.epoch, at.seq) == "ok"

    async def test_facts_that_redis_rewrote_between_two_followers_are_checked(
        self, presence: PresenceStore, store: Store, redis_server: RedisServer
    ) -> None:
        """It lost the newest Changes, and wrote as many others, before anybody asked: the number alone shows nothing."""
        gateway = await Gateway(presence, APP).lease()
        await gateway.open(b"u")
        await store.bans.impose(APP.key, [b"u"], wall_ms() + 60_000, wall_ms())
        heads = await store.changelog.heads()
        await presence.note_kicked({at: head._replace(tip="f" * 16) for at, head in enumerate(heads)})
        await SessionRevoker(store.changelog, store.apps, store.users, presence).follow_from_noted()
        assert await presence.online(APP.key, [b"u"]) == [False]

    async def test_what_a_presence_redis_forgot_of_a_ban_is_done_again(
        self, store: Store, private_redis: RedisServer, tmp_path: Path
    ) -> None:
        """It came back from an older file, from before the kick; the facts' Redis was there all the time."""
        presence = presence_on(private_redis.url)
        kicker = SessionRevoker(store.changelog, store.apps, store.users, presence)
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
        kicker = SessionRevoker(store.changelog, store.apps, store.users, presence)
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
        """Users that are banned after them would wait for all these requests."""
        kicker = SessionRevoker(store.changelog, store.apps, store.users, presence)
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
        assert asked["cmdstat_hget"]["calls"] + asked["cmdstat_eval"]["calls"] + asked["cmdstat_evalsha"]["calls"] < 40
        assert not redis_server.client.exists(keys.base(APP.key) + b"seen")

    async def test_a_late_revoker_closes_no_session_after_a_ban_was_lifted(
        self, presence: PresenceStore, store: Store
    ) -> None:
        gateway = await Gateway(presence, APP).lease()
        late = SessionRevoker(store.changelog, store.apps, store.users, presence)
        await late.follow_from_noted()
        now_ms = wall_ms()
        await store.bans.impose(APP.key, [b"u", b"still"], now_ms + 60_000, now_ms)
        await store.bans.lift(APP.key, [b"u"], now_ms)
        await store.deactivation.deactivate(APP.key, [b"v"], now_ms)
        for job in await store.jobs.claim(wall_ms()):
            await store.jobs.run(job, wall_ms())
        await store.deactivation.reactivate(APP.key, [b"v"], now_ms + 1, 0)
        await gateway.open_many([b"u", b"v", b"still"])
        back = OpenSession(APP, gateway.name, gateway.epoch, b"v", "A" * 11, "Web", "", now_ms + 60_000, "", 0)
        await presence.exchange(presence.opening(back))
        await late.follow_once(1)
        assert await presence.online(APP.key, [b"u", b"v", b"still"]) == [True, True, False]
        (of_v,) = await presence.presences(APP.key, [b"v"])
        assert [one.platform for one in of_v.sessions] == ["Web"], "what came with a Token from before is closed"
