"""Slices one by one: what a late mover may not do, leases that reach some slices only, and slices that lost their data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gate.clock import monotonic_ms
from gate.core.model import AppFacts
from gate.core.presence import BEGINNING, session_id, session_parts
from gate.core.sessions import OpenSession
from gate.core.slices import MAX_SLICES, Slicing
from gate.errors import StoreUnavailable
from gate.presence.mover import CLAIM_MS, Mover
from gate.presence.sweeper import Sweeper
from gate.store import presence_keys as keys
from gate.store import scripts
from gate.store.feed import Feed
from gate.store.presence import LogPosition, PresenceStore, opened
from gate.store.scripts import Call, Script
from harness.cable import Cable
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.presence.played import Gateway, Wanted, presence_on, spread

APP = AppFacts(key="default", secrets=("s",))
KEY = APP.key
SLICES = 8
USERS = [b"user-%d" % nth for nth in range(64)]
TTL_MS = 1_000
MANY = 1_000


def slice_of(user: bytes) -> int:
    return Slicing(SLICES).place(user)


ANN = next(user for user in USERS if slice_of(user) == 5)


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[PresenceStore]:
    store = presence_on(redis_server.url)
    yield store
    await store.client.aclose()


@pytest.fixture
async def gateway(store: PresenceStore) -> Gateway:
    return await Gateway(store, APP).lease()


def lease_in(server: RedisServer, at: int, gateway: Gateway) -> bytes:
    """The copy of a Gateway's lease in one slice."""
    copy = server.client.hget(keys.leases(KEY, at), gateway.name)
    assert isinstance(copy, bytes)
    return copy


class HalfWay:
    """A mover that died when it had taken a User out of its old slice."""

    def __init__(self, store: PresenceStore) -> None:
        self.store = store
        self.number = 0

    async def run(self, at: int, script: Script, *args: bytes | str | int) -> Any:
        (reply,) = await self.store.client.write([Call(script, [keys.base(KEY, at)], args)])
        return reply

    async def begin(self, user: bytes) -> bytes:
        """What was taken of the User."""
        await self.store.client.read(("SADD", keys.APPS, KEY))
        (self.number, _) = await self.run(0, scripts.PRESENCE_MOVER, "", 1)
        word = Slicing(SLICES, 1).word
        assert await self.run(0, scripts.PRESENCE_SLICE, self.number, word, word, "", 0) == 1
        lease = await self.store.client.read(("HGETALL", keys.leases(KEY)))
        for at in range(1, SLICES):
            assert await self.run(at, scripts.PRESENCE_SLICE, self.number, word, "", "1", 1, *lease[0]) == 1
        (taken,) = await self.run(0, scripts.PRESENCE_TAKE, self.number, user)
        return bytes(taken)


async def test_a_user_under_way_is_read_and_its_writes_wait_for_the_next_mover(
    store: PresenceStore, gateway: Gateway
) -> None:
    session = await gateway.open(ANN)
    await HalfWay(store).begin(ANN)
    (presence,) = await store.presences(KEY, [ANN])
    assert [one.id for one in presence.sessions] == [session]
    assert await store.online(KEY, [ANN, USERS[0]]) == [True, False]
    found, _ = await store.page(KEY, 0, MANY)
    assert [user for user, _ in found] == [ANN]
    closing = asyncio.create_task(gateway.close(session))
    clock_ms = 0
    mover = Mover(Wanted(**{KEY: SLICES}), store, lambda: clock_ms)
    await mover.look()
    assert not closing.done(), "nothing is taken over before it was seen to stand still"
    clock_ms = CLAIM_MS
    await mover.look()
    await closing
    assert await store.online(KEY, [ANN]) == [False]
    assert await store.slices.slicing(KEY) == Slicing(SLICES)


async def test_only_writes_of_a_user_that_is_held_up_fail_and_they_fail_in_time(
    redis_server: RedisServer, store: PresenceStore, gateway: Gateway
) -> None:
    session, other = await gateway.open_many([ANN, USERS[0]])
    await HalfWay(store).begin(ANN)
    hasty = presence_on(redis_server.url, 300)
    parts = [session_parts(one) for one in (session, other)]
    asked = [hasty.closing(KEY, gateway.name, gateway.epoch, user, stored, "closed") for stored, user in parts]
    first, second = await hasty.slices.exchange(asked)
    assert isinstance(first, StoreUnavailable)
    assert first.outcome == "not-written"
    assert second == 1
    await hasty.client.aclose()


async def test_a_mover_that_comes_late_changes_nothing(store: PresenceStore, gateway: Gateway) -> None:
    session = await gateway.open(ANN)
    late = HalfWay(store)
    taken = await late.begin(ANN)
    clock_ms = 0
    mover = Mover(Wanted(**{KEY: SLICES}), store, lambda: clock_ms)
    await mover.look()
    clock_ms = CLAIM_MS
    await mover.look()
    await gateway.close(session)
    assert await late.run(5, scripts.PRESENCE_PUT, late.number, ANN, taken) is None
    assert await late.run(0, scripts.PRESENCE_TAKE, late.number, ANN) is None
    assert await late.run(0, scripts.PRESENCE_MOVED, late.number, ANN) is None
    assert await late.run(0, scripts.PRESENCE_SLICE, late.number, "1>8", "", "", 0) is None
    assert await late.run(0, scripts.PRESENCE_MOVER, late.number, 0) is None
    assert await store.online(KEY, [ANN]) == [False]


async def test_a_user_that_is_put_twice_is_there_once(
    redis_server: RedisServer, store: PresenceStore, gateway: Gateway
) -> None:
    session = await gateway.open(ANN)
    mover = HalfWay(store)
    taken = await mover.begin(ANN)
    for _ in range(2):
        assert await mover.run(5, scripts.PRESENCE_PUT, mover.number, ANN, taken) == 1
    assert await mover.run(0, scripts.PRESENCE_MOVED, mover.number, ANN) == 1
    (presence,) = await store.presences(KEY, [ANN])
    assert [one.id for one in presence.sessions] == [session]
    assert redis_server.client.hvals(keys.base(KEY, 5) + b"counts") == [b"1"]


async def test_a_kick_finds_a_user_wherever_it_is_and_its_bar_goes_along(
    store: PresenceStore, gateway: Gateway
) -> None:
    """Before the growth, under way, and behind it; also of a User that has nothing but a bar."""
    await gateway.open(ANN)
    bob = next(user for user in USERS if slice_of(user) == 3)
    await store.kick(KEY, [bob], "banned", up_to=LogPosition("a1", 9))
    await HalfWay(store).begin(ANN)
    kicking = asyncio.create_task(store.kick(KEY, [ANN, bob], "banned", up_to=LogPosition("a1", 5)))
    clock_ms = 0
    mover = Mover(Wanted(**{KEY: SLICES}), store, lambda: clock_ms)
    await mover.look()
    clock_ms = CLAIM_MS
    await mover.look()
    assert await kicking == 1
    for user, last in ((ANN, 5), (bob, 9)):
        words: list[str] = []
        for seq in (last - 1, last):
            stored_id = session_parts(session_id(b"%08d" % seq, user))[0]
            one = OpenSession(APP, gateway.name, gateway.epoch, user, stored_id, "iOS", "", 0, "a1", seq)
            words += map(opened, await store.exchange(store.opening(one)))
        assert words == ["barred", "ok"]
    events = await Feed(store.client, KEY).read(BEGINNING, MANY)
    assert [one.kind for one in events if one.user == ANN][:2] == ["online", "kick"]


async def test_no_bar_is_dropped_while_users_move(store: PresenceStore, gateway: Gateway) -> None:
    """Its floor would be raised in the old slice alone."""
    await gateway.open(ANN)
    await HalfWay(store).begin(ANN)
    (dropped,) = await store.client.write([Call(scripts.PRESENCE_UNBAR, [keys.base(KEY)], (500,))])
    assert dropped == 0


async def test_floors_of_the_old_slices_hold_in_the_new_ones(store: PresenceStore, gateway: Gateway) -> None:
    await store.set_floors(KEY, {"a1": 7})
    await spread(store, KEY, SLICES)
    for seq, word in ((6, "barred"), (7, "ok")):
        stored_id = session_parts(session_id(b"%08d" % seq, ANN))[0]
        one = OpenSession(APP, gateway.name, gateway.epoch, ANN, stored_id, "iOS", "", 0, "a1", seq)
        assert list(map(opened, await store.exchange(store.opening(one)))) == [word]


# Leases


async def test_a_renewal_is_a_write_in_each_slice_whatever_the_users(
    redis_server: RedisServer, store: PresenceStore, gateway: Gateway
) -> None:
    await spread(store, KEY, SLICES)
    await gateway.open_many(USERS)
    calls = redis_server.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    await store.lease(KEY, gateway.name, gateway.epoch)
    assert redis_server.client.info("commandstats")["cmdstat_evalsha"]["calls"] - calls == SLICES
    (leases,) = await store.leases([KEY])
    assert [lease.beat for lease in leases] == [2]


async def test_a_gateway_is_answered_by_the_slice_that_knows_worst_of_it(
    store: PresenceStore, gateway: Gateway
) -> None:
    await spread(store, KEY, SLICES)
    sessions = await gateway.open_many(USERS)
    assert await store.end_lease(KEY, gateway.name, gateway.epoch, at=5)
    assert await store.online(KEY, USERS) == [slice_of(user) != 5 for user in USERS]
    assert [lease.holds for lease in (await store.leases([KEY]))[0]] == [False]
    assert not await store.lease_holds(KEY, gateway.name, gateway.epoch)
    leased = await store.lease(KEY, gateway.name, gateway.epoch)
    assert (leased.epoch, leased.holds) == (gateway.epoch, False)
    await gateway.lease()  # as it has to do then: a higher epoch, under which it opens all of them again
    assert await store.online(KEY, USERS) == [False] * len(USERS)
    assert (await store.counts(KEY)).sweeping == SLICES - 1 + 1
    assert len(await gateway.open_many(USERS)) == len(sessions)
    assert (await store.counts(KEY)).total == len(USERS)


async def test_an_epoch_that_some_slices_lack_is_taken_everywhere(
    redis_server: RedisServer, store: PresenceStore, gateway: Gateway
) -> None:
    await spread(store, KEY, SLICES)
    redis_server.client.hset(
        keys.leases(KEY, 3), gateway.name, "9:1:1:1"
    )  # taken there, and nowhere else, by one that died
    redis_server.client.hdel(keys.leases(KEY, 4), gateway.name)
    await gateway.lease()
    assert gateway.epoch == 10
    assert {lease_in(redis_server, at, gateway)[:3] for at in range(SLICES)} == {b"10:"}
    redis_server.client.hdel(keys.leases(KEY, 4), gateway.name)
    assert (await store.lease(KEY, gateway.name, 10)).is_new, "what was lost there has to be brought back"


async def test_each_slice_judges_its_own_copy_of_a_lease_by_its_beats(
    redis_server: RedisServer, store: PresenceStore, gateway: Gateway
) -> None:
    """Renewals reach all slices but one: only the Users of that slice go offline."""
    await spread(store, KEY, SLICES)
    await gateway.open_many(USERS)
    clock_ms = 0
    sweeper = Sweeper(store, TTL_MS, clock=lambda: clock_ms)
    for _ in range(2 * TTL_MS // 250):
        await sweeper.look()
        kept = lease_in(redis_server, 5, gateway)
        await store.lease(KEY, gateway.name, gateway.epoch)
        if kept.endswith(b":1"):
            redis_server.client.hset(keys.leases(KEY, 5), gateway.name, kept)  # as if the renewal had not come there
        clock_ms += 250
    assert await store.online(KEY, USERS) == [slice_of(user) != 5 for user in USERS]
    assert (await store.counts(KEY)).users == sum(slice_of(user) != 5 for user in USERS)


async def test_a_session_whose_lease_ended_is_not_live_again_in_its_new_slice(
    store: PresenceStore, gateway: Gateway, redis_server: RedisServer
) -> None:
    """Whether the lease ended before the User was taken, or while it was under way."""
    await gateway.open_many(USERS)
    await store.end_lease(KEY, gateway.name, gateway.epoch)
    await spread(store, KEY, SLICES)
    assert not any(await store.online(KEY, USERS))
    assert not any(len(redis_server.client.hgetall(keys.sessions(KEY, at))) for at in range(1, SLICES))
    # Under way: the lease ends in the new slice before the User comes.
    await gateway.lease()
    late = next(user for user in USERS if slice_of(user) == 0 and Slicing(16).place(user) != 0)
    session = await gateway.open(late)
    mover = HalfWay(store)
    (number, _) = await mover.run(0, scripts.PRESENCE_MOVER, "", 1)
    for at in (0, 9):
        await mover.run(at, scripts.PRESENCE_SLICE, number, "8", "", "", 0)
    (taken,) = await mover.run(0, scripts.PRESENCE_TAKE, number, late)
    await mover.run(9, scripts.PRESENCE_PUT, number, late, taken)
    assert redis_server.client.smembers(keys.ending(KEY, 9)) == {b"%d:%b" % (gateway.epoch, gateway.name)}
    assert await store.sweep(KEY, 9) == (1, 0)
    assert session


async def test_a_next_epoch_is_one_in_all_slices_if_a_growth_begins_meanwhile(
    store: PresenceStore, gateway: Gateway
) -> None:
    late, word = HalfWay(store), Slicing(SLICES, 1).word

    class Interrupted(PresenceStore):
        """Slice 0 learns of the growth right after it answered how many slices there are."""

        async def _next_epoch(self, app_key: str, gateway: bytes) -> int | str:
            wanted = await super()._next_epoch(app_key, gateway)
            if not late.number:
                (late.number, _) = await late.run(0, scripts.PRESENCE_MOVER, "", 1)
                await late.run(0, scripts.PRESENCE_SLICE, late.number, word, word, "", 0)
                await self.slices.slicing(app_key)  # as another call of this process may have asked
            return wanted

    async def copy(at: int) -> bytes:
        (packed,) = await store.client.read(("HGET", keys.leases(KEY, at), gateway.name))
        return bytes(packed)

    known = await copy(0)
    taking = asyncio.create_task(Interrupted(store.client).lease(KEY, gateway.name, None))
    async with asyncio.timeout(60):
        while await copy(0) == known:
            await asyncio.sleep(0.01)
    for at in range(1, SLICES):
        await late.run(at, scripts.PRESENCE_SLICE, late.number, word, "", "1", 1, gateway.name, known)
    leased = await taking
    assert leased.holds
    assert {int((await copy(at)).split(b":")[0]) for at in range(SLICES)} == {leased.epoch}


async def test_a_slow_mover_is_not_taken_for_a_dead_one(redis_server: RedisServer, store: PresenceStore) -> None:
    await store.client.read(("SADD", keys.APPS, KEY))
    wanted = Wanted(**{KEY: MAX_SLICES})
    with Cable(redis_server.port) as cable:
        cable.delay_ms = 100  # a way: it takes longer to tell each slice than a mover may say nothing
        slow = presence_on(cable.url)
        moving = asyncio.create_task(Mover(wanted, slow).look())
        await wait_until_async(lambda: redis_server.client.exists(keys.mover(KEY)), 60, "it began")
        another = Mover(wanted, store, lambda: monotonic_ms() // 2)  # has patience with a busy machine
        while not moving.done():
            await another.look()
            await asyncio.sleep(0.05)
        await moving
        await slow.client.aclose()
    assert await store.slices.slicing(KEY) == Slicing(MAX_SLICES)
    assert redis_server.client.hget(keys.mover(KEY), "number") == b"1"


async def test_an_app_removed_while_slices_are_announced_leaves_nothing(
    redis_server: RedisServer, store: PresenceStore
) -> None:
    await store.client.read(("SADD", keys.APPS, KEY))
    wanted = Wanted(**{KEY: MAX_SLICES})
    with Cable(redis_server.port) as cable:
        cable.delay_ms = 50
        slow = presence_on(cable.url)
        moving = asyncio.create_task(Mover(wanted, slow).look())
        await wait_until_async(
            lambda: redis_server.client.exists(keys.slices(KEY, 20)), 60, "some slices to be announced"
        )
        wanted.slices = {}
        await store.remove_app(KEY)
        await moving
        await slow.client.aclose()
    assert redis_server.client.keys(f"*{KEY}*") == []


# Slices that lost their data, as where each is on a server of its own


def lose(redis_server: RedisServer, at: int) -> None:
    for key in redis_server.client.keys(keys.base(KEY, at) + b"*"):
        redis_server.client.delete(key)


async def test_a_slice_that_lost_its_data_is_announced_again(
    redis_server: RedisServer, store: PresenceStore, gateway: Gateway
) -> None:
    await spread(store, KEY, SLICES)
    await gateway.open_many(USERS)
    lose(redis_server, 5)
    await spread(store, KEY, SLICES)
    assert await store.online(KEY, USERS) == [slice_of(user) != 5 for user in USERS]
    await gateway.open(ANN)
    assert await store.online(KEY, [ANN]) == [True]


async def test_slice_0_that_lost_its_data_grows_again_and_the_others_have_theirs(
    redis_server: RedisServer, store: PresenceStore, gateway: Gateway
) -> None:
    await spread(store, KEY, SLICES)
    await gateway.open_many(USERS)
    head = await Feed(store.client, KEY).head()
    lose(redis_server, 0)
    await store.lease(KEY, gateway.name, gateway.epoch)  # in slice 0 alone, by what it says now
    await gateway.open(USERS[0])
    await spread(store, KEY, SLICES)
    assert await store.online(KEY, USERS) == [slice_of(user) != 0 or user == USERS[0] for user in USERS]
    fresh = await Feed(store.client, KEY).head()
    assert len(fresh.places) == SLICES
    assert fresh.epoch != head.epoch
    events = await Feed(store.client, KEY).read(BEGINNING, MANY)
    assert {one.user for one in events} <= {USERS[0]}, "events that slices announced before are not announced again"
