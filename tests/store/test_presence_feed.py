"""An App's feed: a cursor continues where it stood, or the read fails. No entry is skipped, and none is returned twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gate.core.model import AppFacts
from gate.core.presence import Cursor, parse_cursor
from gate.errors import FeedReset, FeedUnreadable, StoreUnavailable
from gate.store import presence_keys as keys
from gate.store.feed import Feed, behind
from gate.store.presence import PresenceStore
from gate.store.slice_feed import SliceFeed
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.presence.played import Gateway, presence_on

APP = AppFacts(key="default", secrets=("s",))
BEGINNING = Cursor("0", 0, 0)
USERS = [b"u%d" % number for number in range(10)]
MANY = 1_000


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[PresenceStore]:
    store = presence_on(redis_server.url)
    yield store
    await store.client.aclose()


@pytest.fixture
async def feed(store: PresenceStore) -> AsyncIterator[Feed]:
    feed = Feed(store.client, APP.key)
    yield feed
    await feed.aclose()


@pytest.fixture
async def gateway(store: PresenceStore) -> Gateway:
    return await Gateway(store, APP).lease()


async def test_pieces_of_any_size_are_the_whole(feed: Feed, gateway: Gateway) -> None:
    assert await feed.head() == BEGINNING
    await gateway.open_many(USERS)
    whole = await feed.read(BEGINNING, MANY)
    assert [(event.cursor.seq, event.user) for event in whole] == list(enumerate(USERS, 1))
    assert await feed.head() == whole[-1].cursor
    for size in (1, 3, 10, 11):
        cursor, pieces = BEGINNING, []
        while some := await feed.read(cursor, size):
            assert len(some) <= size
            pieces += some
            cursor = some[-1].cursor
        assert pieces == whole


class Interrupted:
    """A client among whose pipelined commands the server serves others': `between` is done before each but the first."""

    def __init__(self, store: PresenceStore, between: Callable[[], Awaitable[object]]) -> None:
        self._client = store.client
        self._between = between

    async def read(self, *commands: Any) -> list[Any]:
        replies = await self._client.read(commands[0])
        for command in commands[1:]:
            await self._between()
            replies += await self._client.read(command)
        return replies


async def test_a_head_that_moves_while_it_is_read_is_a_place_to_read_on_from(
    store: PresenceStore, gateway: Gateway
) -> None:
    users = iter(USERS)
    await gateway.open(next(users))
    busy: Any = Interrupted(store, lambda: gateway.open(next(users)))
    head = await Feed(busy, APP.key).head()
    await gateway.open(next(users))
    assert [event.user for event in await Feed(store.client, APP.key).read(head, MANY)] == [USERS[3]]


async def test_what_is_trimmed_while_it_is_read_is_no_gap(
    store: PresenceStore, gateway: Gateway, redis_server: RedisServer
) -> None:
    await gateway.open_many(USERS)
    cursor = (await Feed(store.client, APP.key).read(BEGINNING, MANY))[0].cursor
    left = iter([len(USERS), len(USERS), 3])

    async def trim() -> None:
        redis_server.client.xtrim(keys.feed(APP.key), maxlen=next(left), approximate=False)

    busy: Any = Interrupted(store, trim)
    with pytest.raises(FeedReset):
        await Feed(busy, APP.key).read(cursor, MANY)


async def test_a_cursor_survives_being_written_down(feed: Feed, gateway: Gateway) -> None:
    await gateway.open_many(USERS)
    fourth = (await feed.read(BEGINNING, MANY))[3].cursor
    assert parse_cursor(str(fourth)) == fourth
    assert (await feed.read(parse_cursor(str(fourth)), 1))[0].user == USERS[4]


async def test_the_head_before_the_first_entry_misses_nothing(feed: Feed, gateway: Gateway) -> None:
    head = await feed.head()
    await gateway.open(b"first")
    assert [event.user for event in await feed.read(head, MANY)] == [b"first"]


async def test_waiting_ends_with_the_next_entry_and_not_before(feed: Feed, gateway: Gateway) -> None:
    head = await feed.head()
    assert await feed.wait(head, MANY, 1) == []
    await gateway.open(b"one")
    one = await feed.wait(head, MANY, 10_000)
    assert [event.user for event in one] == [b"one"]
    assert await feed.wait(one[-1].cursor, MANY, 1) == []


async def test_a_feed_that_lost_all_says_so_from_the_first_moment(
    feed: Feed, gateway: Gateway, redis_server: RedisServer
) -> None:
    await gateway.open_many(USERS)
    cursor = await feed.head()
    redis_server.client.flushall()
    with pytest.raises(FeedReset):
        await feed.read(cursor, MANY)
    await gateway.lease()
    await gateway.open_many([*USERS, *(user + b"x" for user in USERS)])
    with pytest.raises(FeedReset):
        await feed.read(cursor, MANY)
    with pytest.raises(FeedReset):
        await feed.read(Cursor(cursor.epoch, 0, 0), MANY)
    assert len(await feed.read(BEGINNING, MANY)) == 2 * len(USERS)


async def test_entries_that_are_no_longer_kept_are_missed_aloud(
    feed: Feed, gateway: Gateway, redis_server: RedisServer
) -> None:
    await gateway.open_many(USERS)
    every = await feed.read(BEGINNING, MANY)
    redis_server.client.xtrim(keys.feed(APP.key), maxlen=4, approximate=False)
    for cursor in (BEGINNING, every[0].cursor, every[5].cursor):
        with pytest.raises(FeedReset):
            await feed.read(cursor, MANY)
    assert await feed.read(every[6].cursor, MANY) == every[7:]
    redis_server.client.delete(keys.feed(APP.key))
    for cursor in (BEGINNING, every[9].cursor):
        with pytest.raises(FeedReset):
            await feed.read(cursor, MANY)


async def test_entries_without_a_head_belong_to_no_history(
    feed: Feed, gateway: Gateway, redis_server: RedisServer
) -> None:
    """As when a server that evicts keys dropped one of the two."""
    await gateway.open_many(USERS)
    cursor = await feed.head()
    redis_server.client.delete(keys.feed_meta(APP.key))
    await gateway.open(b"after")
    with pytest.raises(FeedReset):
        await feed.read(cursor, MANY)
    assert [(event.cursor.seq, event.user) for event in await feed.read(BEGINNING, MANY)] == [(1, b"after")]


@pytest.mark.parametrize("went_on", [0, 3, 20])
async def test_a_server_that_came_back_with_an_older_file_is_noticed(
    private_redis: RedisServer, tmp_path: Path, went_on: int
) -> None:
    """However far it went on since: not yet to the cursor's number, or past it with other entries."""
    store = presence_on(private_redis.url)
    gateway = await Gateway(store, APP).lease()
    feed = Feed(store.client, APP.key)
    await gateway.open_many(USERS[:2])
    kept = await feed.head()
    private_redis.save_copy(tmp_path / "older.rdb")
    await gateway.open_many(USERS[2:])
    lost = await feed.head()
    private_redis.restart_from(tmp_path / "older.rdb")
    await wait_until_async(lambda: _answers(store), 10, "the store to be back")
    for number in range(went_on):
        await gateway.open(b"other%d" % number)
    with pytest.raises(FeedReset):
        await feed.read(lost, MANY)
    assert len(await feed.read(kept, MANY)) == went_on
    await feed.aclose()
    await store.client.aclose()


async def _answers(store: PresenceStore) -> bool:
    try:
        await store.apps()
    except StoreUnavailable:
        return False
    return True


def append_of_another_version(redis_server: RedisServer, entry: bytes = b"online alice iOS edge-1") -> int:
    """What no version of now would write; its number."""
    seq = int(redis_server.client.hincrby(keys.feed_meta(APP.key), "seq", 1))
    redis_server.client.xadd(keys.feed(APP.key), {"e": entry}, id=f"{seq}-0")
    return seq


@pytest.mark.parametrize(
    "entry", [b"", b"online", b"online x y z a b c d e", b"onward 1 s p g i w 0 u", b"\xff 1 s p g i w 0 u"]
)
async def test_entries_of_another_version_are_never_skipped_in_silence(
    feed: Feed, gateway: Gateway, redis_server: RedisServer, entry: bytes
) -> None:
    await gateway.open(b"ann")
    seq = append_of_another_version(redis_server, entry)
    (ann,) = await feed.read(BEGINNING, MANY)
    with pytest.raises(FeedUnreadable, match=f"up to {seq} were written by a version") as caught:
        await feed.read(ann.cursor, MANY)
    assert (behind(caught.value, ann.cursor), caught.value.many) == (await feed.head(), 1)
    await gateway.open(b"bob")
    (bob,) = await feed.read(behind(caught.value, ann.cursor), MANY)
    assert (bob.user, bob.cursor.seq) == (b"bob", seq + 1)
    assert await feed.wait(bob.cursor, MANY, 1) == []


async def test_a_feed_that_begins_with_entries_of_another_version(
    feed: Feed, gateway: Gateway, redis_server: RedisServer
) -> None:
    await gateway.open(b"ann")
    redis_server.client.xtrim(keys.feed(APP.key), maxlen=0)
    for _ in range(3):
        seq = append_of_another_version(redis_server)
    assert await feed.oldest() == Cursor((await feed.head()).epoch, seq - 2, 0)
    assert await SliceFeed(feed.client, APP.key, 0).read_oldest(MANY) == []
    await gateway.open(b"bob")
    assert [one.user for one in await SliceFeed(feed.client, APP.key, 0).read_oldest(MANY)] == [b"bob"]
    with pytest.raises(FeedUnreadable) as caught:
        await feed.read(await feed.oldest(), MANY)
    assert (caught.value.seq, caught.value.many) == (seq, 2)
