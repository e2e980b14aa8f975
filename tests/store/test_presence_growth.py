"""An App's Presence gets more slices: no Session, departure, bar or event is lost, and events of one User keep their order.

The mover of the service moves Users on a real server, while Gateways connect, disconnect and kick, and readers follow the feed.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from gate.core.model import AppFacts
from gate.core.presence import BEGINNING, Cursor, Event, session_id, session_parts
from gate.core.sessions import OpenSession
from gate.core.slices import Slicing
from gate.errors import FeedReset
from gate.store import presence_keys as keys
from gate.store.feed import Feed
from gate.store.presence import LogPosition, PresenceStore, opened
from harness.clusters import ClusterSetup
from harness.seeds import seed
from harness.servers import RedisServer
from tests.presence.played import Gateway, presence_on, spread
from tests.presence.takes_turns import TakesTurns

SEED = seed(1)

APP = AppFacts(key="default", secrets=("s",))
KEY = APP.key
MANY = 10_000
USERS = [b"user-%d" % nth for nth in range(200)]
ANN = b"ann"
"""In slice 5 of 8, and in slice 0 before."""


@pytest.fixture
async def store(each_redis: RedisServer) -> AsyncIterator[PresenceStore]:
    store = presence_on(each_redis.url)
    yield store
    await store.client.aclose()


@pytest.fixture
async def gateway(store: PresenceStore) -> Gateway:
    return await Gateway(store, APP).lease()


def opening(gateway: Gateway, user: bytes, seq: int, number: int = 0) -> OpenSession:
    stored_id = session_parts(session_id(b"%08d" % number, user))[0]
    return OpenSession(APP, gateway.name, gateway.epoch, user, stored_id, "iOS", "", 0, "a1", seq)


async def everyone(store: PresenceStore) -> dict[bytes, set[str]]:
    """By pages: each User's Sessions."""
    found: dict[bytes, set[str]] = {}
    cursor = -1
    while cursor:
        page, cursor = await store.page(KEY, max(0, cursor), 50)
        found |= {user: {one.id for one in sessions} for user, sessions in page}
    return found


def places(server: RedisServer, slices: int) -> dict[int, set[bytes]]:
    """Which Users each slice keeps anything of."""
    found: dict[int, set[bytes]] = {at: set() for at in range(slices)}
    for at, users in found.items():
        for kept in keys.kept_by_user(KEY, at):
            users.update(cast("list[bytes]", server.client.hkeys(kept)))
    return found


@pytest.mark.parametrize("steps", [[2], [8], [3, 4, 13]])
async def test_all_that_there_is_of_a_user_is_in_its_new_slice(
    store: PresenceStore, gateway: Gateway, each_redis: RedisServer, steps: list[int]
) -> None:
    other = await Gateway(store, APP, b"edge-2").lease()
    sessions = await gateway.open_many(USERS[:120])
    sessions += await other.open_many(USERS[60:150], "Web")
    for session in sessions[:30]:
        await gateway.close(session)
    await store.kick(KEY, USERS[150:160], "banned", up_to=LogPosition("a1", 7))
    before = await store.presences(KEY, USERS), await store.counts(KEY), await everyone(store)
    for slices in steps:
        await spread(store, KEY, slices)
        assert before == (await store.presences(KEY, USERS), await store.counts(KEY), await everyone(store))
        kept = places(each_redis, slices)
        assert set().union(*kept.values()) == set(USERS[:160])
        assert all(Slicing(slices).place(user) == at for at, users in kept.items() for user in users)
        assert not [at for at in range(slices) if each_redis.client.exists(keys.moving(KEY, at))]
    # Departures are announced where they are now, and bars hold.
    await asyncio.sleep(1.1)
    announced = [(await store.announce(KEY, at))[0] for at in range(steps[-1])]
    assert sum(announced) == 30
    assert sum(bool(many) for many in announced) > 1
    (barred,) = await store.exchange(store.opening(opening(gateway, USERS[155], 6)))
    (late,) = await store.exchange(store.opening(opening(gateway, USERS[155], 7)))
    assert (opened(barred), opened(late)) == ("barred", "ok")
    # Each Session ends where it is.
    assert await store.kick(KEY, USERS, "kicked") == len(sessions) - 30 + 1
    assert (await store.counts(KEY)).total == 0


async def test_a_slice_whose_number_is_the_same_has_nothing_to_move(
    store: PresenceStore, gateway: Gateway, each_redis: RedisServer
) -> None:
    await gateway.open_many(USERS)
    await spread(store, KEY, 1)
    assert not each_redis.client.exists(keys.slices(KEY), keys.mover(KEY))
    await spread(store, KEY, 4)
    number = each_redis.client.hget(keys.mover(KEY), "number")
    await spread(store, KEY, 2)  # an older setting, as another node may still have it
    assert (await store.slices.slicing(KEY), each_redis.client.hget(keys.mover(KEY), "number")) == (Slicing(4), number)


async def test_events_of_before_and_after_are_read_from_any_cursor_in_order(
    store: PresenceStore, gateway: Gateway
) -> None:
    feed = Feed(store.client, KEY)
    first = await gateway.open_many(USERS[:100])
    every = await feed.read(BEGINNING, MANY)
    old = every[9].cursor
    await spread(store, KEY, 8)
    await gateway.open_many(USERS[100:])
    for session in first:
        await gateway.close(session)
    await store.kick(KEY, USERS[100:], "kicked")
    await asyncio.sleep(1.1)
    for at in range(8):
        await store.announce(KEY, at)
    whole = await feed.read(BEGINNING, MANY)
    TakesTurns().follow(whole)
    assert whole[:100] == [one._replace(cursor=one.cursor.over(8)) for one in every]
    assert _by_user(await feed.read(old, MANY)) == _by_user(whole[10:])
    # Whatever is read at once, from wherever.
    for most in (1, 7, 64):
        cursor, read = old, list[Event]()
        while some := await feed.read(cursor, most):
            assert len(some) == most or len(read) + len(some) == len(whole) - 10
            read += some
            cursor = some[-1].cursor
        assert sorted(map(str, (one.place for one in read))) == sorted(map(str, (one.place for one in whole[10:])))
        TakesTurns().follow([*whole[:10], *read])
        assert cursor == await feed.head()
    assert await feed.wait(await feed.head(), MANY, 1) == []
    await feed.aclose()


async def test_a_cursor_of_more_slices_than_there_are_is_of_another_app(store: PresenceStore, gateway: Gateway) -> None:
    await gateway.open(ANN)
    await spread(store, KEY, 3)
    head = await Feed(store.client, KEY).head()
    await store.remove_app(KEY)
    gateway = await Gateway(store, APP).lease()
    await gateway.open(ANN)
    with pytest.raises(FeedReset):
        await Feed(store.client, KEY).read(head, MANY)
    with pytest.raises(FeedReset, match="fewer slices"):
        await Feed(store.client, KEY).read(Cursor("0", 0, 0, (BEGINNING,)), MANY)


async def test_an_app_that_is_removed_leaves_nothing_in_any_slice(
    store: PresenceStore, gateway: Gateway, each_redis: RedisServer
) -> None:
    await spread(store, KEY, 8)
    await gateway.open_many(USERS)
    await store.kick(KEY, USERS[:9], "banned", up_to=LogPosition("a1", 7))
    stale = presence_on(each_redis.url)  # which believes that there is one slice
    await stale.remove_app(KEY)
    await stale.client.aclose()
    assert [key for key in each_redis.client.keys("*") if KEY.encode() in key] == []


class UnderLoad:
    """Connects, disconnects and kicks at random, and readers that follow all of it."""

    def __init__(self, url: str, its_seed: int) -> None:
        self.url = url
        self.random = random.Random(its_seed)
        self.stopping, self.has_stopped = asyncio.Event(), asyncio.Event()
        self.open: dict[bytes, set[str]] = defaultdict(set)
        self.done = 0

    async def act(self, name: bytes, users: Sequence[bytes]) -> None:
        """One Gateway, with Users of its own."""
        store = presence_on(self.url)
        gateway = await Gateway(store, APP, name).lease()
        while not self.stopping.is_set():
            user = self.random.choice(users)
            choice = self.random.random()
            if choice < 0.5 or not self.open[user]:
                self.open[user].add(await gateway.open(user, self.random.choice(["iOS", "Web"])))
            elif choice < 0.8:
                await gateway.close(self.open[user].pop())
            elif choice < 0.9:
                assert await store.kick(KEY, [user], "kicked") == len(self.open.pop(user))
            else:
                (presence,) = await store.presences(KEY, [user])
                assert {one.id for one in presence.sessions} == self.open[user]
            self.done += 1
        await store.client.aclose()

    async def renew(self) -> None:
        """A Gateway that does nothing else, and must be let nowhere."""
        store = presence_on(self.url)
        gateway = await Gateway(store, APP, b"idle").lease()
        while not self.stopping.is_set():
            leased = await store.lease(KEY, gateway.name, gateway.epoch)
            assert (leased.holds, leased.is_new) == (True, False)
            await asyncio.sleep(0.01)
        await store.client.aclose()

    async def announce(self) -> None:
        store = presence_on(self.url)
        while not self.stopping.is_set():
            for at in range((await store.slices.slicing(KEY)).slices):
                await store.announce(KEY, at)
            await asyncio.sleep(0.05)
        await store.client.aclose()

    async def follow(self, after: Cursor, most: int) -> tuple[Cursor, list[Event]]:
        """All events from a cursor on, until it has caught up after the end."""
        store = presence_on(self.url)
        feed, read = Feed(store.client, KEY), list[Event]()
        while True:
            is_last = self.has_stopped.is_set()
            some = await feed.wait(after, most, 50)
            read += some
            after = some[-1].cursor if some else after
            if is_last and not some:
                break
        await feed.aclose()
        await store.client.aclose()
        return after, read


@pytest.mark.timeout(120)
async def test_nothing_is_lost_while_users_move_under_load(
    store: PresenceStore, gateway: Gateway, each_redis: RedisServer
) -> None:
    await grow_under_load(store, gateway, each_redis.url, SEED)


@pytest.mark.timeout(180)
async def test_nothing_is_lost_while_users_move_over_the_masters_of_a_cluster(tmp_path: Path) -> None:
    setup = await asyncio.to_thread(ClusterSetup.start, "redis-7", tmp_path)
    try:
        store = presence_on(setup.url)
        await grow_under_load(store, await Gateway(store, APP).lease(), setup.url, SEED + 2)
        masters = {store.client.master_of(keys.base(KEY, at)).address.shown for at in range(8)}
        await store.client.aclose()
        assert len(masters) > 1
    finally:
        await asyncio.to_thread(setup.stop)


async def grow_under_load(store: PresenceStore, gateway: Gateway, url: str, its_seed: int) -> None:
    load = UnderLoad(url, its_seed)
    await gateway.open_many([b"still-%d" % nth for nth in range(2_000)])
    start = await Feed(store.client, KEY).head()
    acting = [asyncio.create_task(load.act(b"busy-%d" % nth, USERS[20 * nth : 20 * nth + 20])) for nth in range(6)]
    others = [asyncio.create_task(one) for one in (load.renew(), load.announce())]
    readers = [asyncio.create_task(load.follow(start, most)) for most in (3, 1_000)]
    for slices in (3, 8):
        await asyncio.sleep(0.3)
        await spread(store, KEY, slices)
        readers.append(asyncio.create_task(load.follow(await Feed(store.client, KEY).head(), 50)))
    await asyncio.sleep(0.3)
    load.stopping.set()
    await asyncio.gather(*acting, *others)
    load.has_stopped.set()
    read = [await reader for reader in readers]
    assert load.done > 100
    # Sessions are those that their Gateways believe in, and the 2,000 that nothing was done for.
    there = await everyone(store)
    assert {user: ids for user, ids in there.items() if not user.startswith(b"still")} == {
        user: ids for user, ids in load.open.items() if ids
    }
    counts = await store.counts(KEY)
    assert (counts.users, counts.total) == (len(there), sum(map(len, there.values())))
    assert len(there) - sum(bool(ids) for ids in load.open.values()) == 2_000
    # Every reader got the same events of each User, in the same order; arrivals and departures alternate.
    by_user = [_by_user(events) for _, events in read]
    assert by_user[0] == by_user[1]
    TakesTurns().follow([*(await Feed(store.client, KEY).read(BEGINNING, 2_000)), *read[0][1]])
    for later in by_user[2:]:
        assert all(by_user[0][user][-len(events) :] == events for user, events in later.items())
    assert {cursor for cursor, _ in read} == {await Feed(store.client, KEY).head()}


def _by_user(events: Sequence[Event]) -> dict[bytes, list[tuple[str, str]]]:
    found: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for one in events:
        found[one.user].append((one.kind, one.session))
    return dict(found)
