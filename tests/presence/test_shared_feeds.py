"""Followers of an App's feed: each sees every entry once and in order, whatever happens to Redis, and however slow it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from gate.core.model import AppFacts
from gate.core.presence import Cursor, Event
from gate.errors import FeedReset, FeedUnreadable
from gate.presence import shared_feeds
from gate.presence.shared_feeds import SharedFeeds
from gate.store.feed import Feed
from gate.store.presence import PresenceStore
from harness.cable import Cable
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.presence.played import Gateway, presence_on, spread

APP = AppFacts(key="default", secrets=("s",))
SOON_S = 10.0


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[PresenceStore]:
    store = presence_on(redis_server.url)
    yield store
    await store.client.aclose()


@pytest.fixture
async def feeds(store: PresenceStore) -> AsyncIterator[SharedFeeds]:
    feeds = SharedFeeds(store.client)
    yield feeds
    await feeds.aclose()


@pytest.fixture
async def gateway(store: PresenceStore) -> Gateway:
    return await Gateway(store, APP).lease()


async def take(following: AsyncGenerator[Sequence[Event], None], many: int) -> list[Event]:
    """So many entries."""
    taken: list[Event] = []
    async with asyncio.timeout(SOON_S):
        while len(taken) < many:
            taken += await anext(following)
    return taken


def kinds_and_users(events: Sequence[Event]) -> list[tuple[str, bytes]]:
    return [(event.kind, event.user) for event in events]


def blocked_reads(server: RedisServer) -> int:
    blocked: int = server.client.info("clients")["blocked_clients"]
    return blocked


async def test_a_follower_sees_what_lies_behind_its_cursor_and_what_comes(feeds: SharedFeeds, gateway: Gateway) -> None:
    start = await feeds.head(APP.key)
    await gateway.open(b"alice")
    async with aclosing(feeds.follow(APP.key, start)) as following:
        assert kinds_and_users(await take(following, 1)) == [("online", b"alice")]
        coming = asyncio.create_task(take(following, 2))
        await gateway.open(b"bob")
        await gateway.open(b"alice", "Web")
        assert kinds_and_users(await coming) == [("online", b"bob"), ("platform-online", b"alice")]


async def test_without_a_cursor_it_begins_at_the_head(
    feeds: SharedFeeds, gateway: Gateway, redis_server: RedisServer
) -> None:
    await gateway.open(b"before")
    async with aclosing(feeds.follow(APP.key)) as following:
        coming = asyncio.create_task(take(following, 1))
        await wait_until_async(lambda: blocked_reads(redis_server) == 1, SOON_S, "the follower to wait")
        await gateway.open(b"after")
        assert kinds_and_users(await coming) == [("online", b"after")]


async def test_an_event_between_first_look_and_shared_read_is_not_delayed(
    gateway: Gateway, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, start = presence_on(redis_server.url), await SharedFeeds(gateway.store.client).head(APP.key)
    read, looked = late.client.read, asyncio.Event()

    async def read_after_it_came(*commands: Any) -> list[Any]:
        if commands[2][0] == "XREVRANGE":  # the shared read, as it looks where it begins
            await looked.wait()
            await gateway.open(b"between")
        replies = await read(*commands)
        looked.set()
        return replies

    monkeypatch.setattr(late.client, "read", read_after_it_came)
    feeds = SharedFeeds(late.client)
    async with aclosing(feeds.follow(APP.key, start)) as following:
        assert kinds_and_users(await take(following, 1)) == [("online", b"between")]
    await feeds.aclose()
    await late.client.aclose()


async def test_many_followers_share_one_blocked_read_that_ends_with_the_last(
    feeds: SharedFeeds, gateway: Gateway, redis_server: RedisServer
) -> None:
    start = await feeds.head(APP.key)
    connections = len(redis_server.client.client_list())
    followings = [feeds.follow(APP.key, start) for _ in range(50)]
    coming = [asyncio.create_task(take(one, 20)) for one in followings]
    await wait_until_async(lambda: blocked_reads(redis_server) == 1, SOON_S, "one blocked read")
    await gateway.open_many([b"%d" % number for number in range(20)])
    assert len({tuple(kinds_and_users(await one)) for one in coming}) == 1
    assert len(redis_server.client.client_list()) == connections + 1
    for one in followings:
        await one.aclose()
    await wait_until_async(
        lambda: len(redis_server.client.client_list()) == connections, SOON_S, "the shared read's connection to close"
    )


async def test_what_comes_one_behind_the_other_is_read_together(
    feeds: SharedFeeds, gateway: Gateway, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_feeds, "GATHER_S", 1.0)
    users = [b"%d" % number for number in range(20)]
    async with aclosing(feeds.follow(APP.key, await feeds.head(APP.key))) as following:
        coming = asyncio.create_task(take(following, 1))
        await wait_until_async(lambda: blocked_reads(redis_server) == 1, SOON_S, "the follower to wait")
        await gateway.open(b"first")
        assert kinds_and_users(await coming) == [("online", b"first")]  # which does not wait for others
        for user in users:
            await gateway.open(user)
        assert kinds_and_users(await anext(following)) == [("online", user) for user in users]


async def test_a_slow_follower_catches_up_by_itself_and_delays_no_other(
    feeds: SharedFeeds, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_feeds, "RECENT_EVENTS", 16)
    monkeypatch.setattr(shared_feeds, "MOST_A_READ", 10)
    start = await feeds.head(APP.key)
    users = [b"%03d" % number for number in range(200)]
    async with aclosing(feeds.follow(APP.key, start)) as slow, aclosing(feeds.follow(APP.key, start)) as quick:
        await gateway.open(b"first")
        assert kinds_and_users(await take(slow, 1)) == [("online", b"first")]
        seen = kinds_and_users(await take(quick, 1))
        for at in range(0, len(users), 20):
            await gateway.open_many(users[at : at + 20])
            seen += kinds_and_users(await take(quick, 20))
        assert seen == [("online", user) for user in [b"first", *users]]
        assert kinds_and_users(await take(slow, 200)) == [("online", user) for user in users]


async def test_an_outage_delays_and_loses_nothing(redis_server: RedisServer) -> None:
    with Cable(redis_server.port) as cable:
        near, far = presence_on(redis_server.url), presence_on(cable.url, 500)
        feeds, gateway = SharedFeeds(far.client), await Gateway(near, APP).lease()
        start = await feeds.head(APP.key)
        async with aclosing(feeds.follow(APP.key, start)) as following:
            coming = asyncio.create_task(take(following, 3))
            await gateway.open(b"before")
            await wait_until_async(lambda: not feeds.is_cut_off(APP.key), SOON_S, "the first read")
            cable.cut()
            await wait_until_async(lambda: feeds.is_cut_off(APP.key), SOON_S, "the cut to be noticed")
            await gateway.open(b"meanwhile")
            cable.mend()
            await wait_until_async(lambda: not feeds.is_cut_off(APP.key), SOON_S, "the mending to be noticed")
            await gateway.open(b"after")
            assert kinds_and_users(await coming) == [
                ("online", b"before"),
                ("online", b"meanwhile"),
                ("online", b"after"),
            ]
        await feeds.aclose()
        await near.client.aclose()
        await far.client.aclose()


async def test_a_cursor_of_another_history_is_refused(feeds: SharedFeeds, gateway: Gateway) -> None:
    await gateway.open(b"alice")
    head = await feeds.head(APP.key)
    for wrong in (head._replace(epoch="abc"), head._replace(seq=head.seq + 1), head._replace(at_us=1)):
        with pytest.raises(FeedReset):
            await take(feeds.follow(APP.key, wrong), 1)


async def test_a_restarted_feed_resets_its_followers_and_serves_new_ones(
    feeds: SharedFeeds, gateway: Gateway, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_feeds, "BLOCK_MS", 50)
    await gateway.open(b"lost")
    following = feeds.follow(APP.key, await feeds.head(APP.key))
    coming = asyncio.create_task(take(following, 1))
    await wait_until_async(lambda: blocked_reads(redis_server) == 1, SOON_S, "the follower to wait")
    redis_server.client.flushall()
    with pytest.raises(FeedReset):
        await coming
    await gateway.lease()
    async with aclosing(feeds.follow(APP.key, Cursor("0", 0, 0))) as restarted:
        await gateway.open(b"alice")
        assert kinds_and_users(await take(restarted, 1)) == [("online", b"alice")]


async def test_entries_that_are_no_longer_kept_are_a_reset_and_no_gap(
    feeds: SharedFeeds, gateway: Gateway, redis_server: RedisServer
) -> None:
    start = await feeds.head(APP.key)
    await gateway.open_many([b"a", b"b", b"c"])
    redis_server.client.xtrim(f"gate:{{{APP.key}}}:feed", maxlen=1, approximate=False)
    with pytest.raises(FeedReset):
        await take(feeds.follow(APP.key, start), 1)


async def test_closing_ends_followers_that_wait(feeds: SharedFeeds, redis_server: RedisServer) -> None:
    waiting = [asyncio.create_task(take(feeds.follow(APP.key), 1)) for _ in range(3)]
    await wait_until_async(lambda: blocked_reads(redis_server) == 1, SOON_S, "the followers to wait")
    await feeds.aclose()
    for one in waiting:
        with pytest.raises(StopAsyncIteration):
            await one


async def test_an_unreadable_entry_is_an_error_and_not_waited_on(
    feeds: SharedFeeds, gateway: Gateway, redis_server: RedisServer
) -> None:
    await gateway.open(b"alice")
    following = feeds.follow(APP.key, await feeds.head(APP.key))
    coming = asyncio.create_task(take(following, 1))
    await wait_until_async(lambda: blocked_reads(redis_server) == 1, SOON_S, "the follower to wait")
    entry: dict[Any, Any] = {"e": "unheard-of 1 s p g    u"}
    redis_server.client.hincrby(f"gate:{{{APP.key}}}:feed-meta", "seq", 1)
    redis_server.client.xadd(f"gate:{{{APP.key}}}:feed", entry, id="2-0")
    with pytest.raises(FeedUnreadable, match="does not understand"):
        await coming


async def test_those_that_wait_go_on_a_few_in_each_pass_of_the_loop(
    feeds: SharedFeeds, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand in one pass took it 10 ms, in which no check was answered."""
    monkeypatch.setattr(shared_feeds, "WOKEN_A_PASS", 2)
    loop, passes, woken = asyncio.get_running_loop(), [0], list[int]()
    head = await feeds.head(APP.key)

    def count() -> None:
        passes[0] += 1
        loop.call_soon(count)

    async def follow() -> None:
        async with aclosing(feeds.follow(APP.key, head)) as following:
            await anext(following)
            woken.append(passes[0])

    followers = [asyncio.create_task(follow()) for _ in range(10)]
    await _waited_for_by(feeds, len(followers))
    followers.pop().cancel()
    await _waited_for_by(feeds, len(followers))
    count()
    await gateway.open(b"ann")
    await asyncio.wait(followers, timeout=SOON_S)
    assert len(woken) == 9
    assert max(map(woken.count, woken)) <= 2


async def _waited_for_by(feeds: SharedFeeds, many: int) -> None:
    await wait_until_async(lambda: feeds.waiting(APP.key) == many, SOON_S, f"{many} to wait")


async def test_followers_see_all_of_it_once_while_users_move_to_more_slices(
    feeds: SharedFeeds, store: PresenceStore, gateway: Gateway
) -> None:
    """Those that were there before, and those that come with a cursor in an order of their own."""
    start, users = await feeds.head(APP.key), [b"user-%d" % nth for nth in range(90)]
    followings = [feeds.follow(APP.key, start) for _ in range(3)]
    coming = [asyncio.create_task(take(one, 90)) for one in followings]
    await gateway.open_many(users[:30])
    await spread(store, APP.key, 3)
    await gateway.open_many(users[30:60])
    others = await Feed(store.client, APP.key).read(start, 45)
    follower = feeds.follow(APP.key, others[-1].cursor)
    late = asyncio.create_task(take(follower, 45))
    await spread(store, APP.key, 8)
    await gateway.open_many(users[60:])
    for events in (*[await one for one in coming], [*others, *await late]):
        assert sorted(event.user for event in events) == sorted(users)
        assert {event.user for event in events[:30]} == set(users[:30]), "old slices come first"
        assert [event.cursor.many for event in events] == list(range(start.many + 1, start.many + 91))
    assert (await coming[0])[-1].cursor == await feeds.head(APP.key)
    for one in (*followings, follower):
        await one.aclose()


async def test_a_follower_with_another_order_of_slices_is_served_from_the_share(
    store: PresenceStore, gateway: Gateway
) -> None:
    await spread(store, APP.key, 8)
    feeds = SharedFeeds(store.client)
    start = await feeds.head(APP.key)
    first = feeds.follow(APP.key, start)
    coming = asyncio.create_task(take(first, 60))
    await gateway.open_many([b"user-%d" % nth for nth in range(60)])
    events = await coming
    # A cursor that is before the shared read in one slice alone.
    last = events[-1].cursor
    lacking = events[20]
    before = next(
        (one.place for one in reversed(events[:20]) if one.slice_ == lacking.slice_), start.places[lacking.slice_]
    )
    missed = [one for one in events if one.slice_ == lacking.slice_ and one.place.seq > before.seq]
    async with aclosing(feeds.follow(APP.key, last.at(lacking.slice_, before))) as second:
        found = await take(second, len(missed))
    assert [one.place for one in found] == [one.place for one in missed]
    assert found[-1].cursor == last
    await first.aclose()
    await feeds.aclose()
