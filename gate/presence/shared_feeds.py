"""Shared feed subscriptions: all followers of one App's feed in a process share one blocking read.

Without this, thousands of readers of one feed (event streams, this process's local Gateway) would each cost Redis a connection
and a read. Here one task per App reads, and keeps the newest entries for its followers. A follower that is further behind reads
by itself, from its own cursor, until it has caught up: a slow follower costs no memory, loses nothing and delays no other one.

A follower gets every entry after its cursor once, in order, or the exception `FeedReset`. While Redis is unreachable, followers
wait and `is_cut_off` is true; then they continue at their cursors. Used by `gate.http` and `gate.presence`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import islice

import structlog

from gate.core.presence import Cursor, Event, following
from gate.errors import FeedReset, FeedUnreadable, StoreUnavailable
from gate.store.client import Client
from gate.store.feed import Feed

# Some 150 kB; a longer reply would hold up what else waits for the server.
MOST_A_READ = 1_000
# Kept of each App that is followed: who wakes a moment late still finds what it missed, without a read of its own.
RECENT_EVENTS = 2_048
# How long one read waits; after so long at most it is seen that the server lost the feed and nothing came since.
BLOCK_MS = 5_000
# So long is waited after some entries for those right behind them, or each would be a read of its own, which took a quarter of
# the HTTP role's time while thousands connected. A kick may be as late.
GATHER_S = 0.005
# Followers that go on in one pass of the loop.
WOKEN_A_PASS = 64
# As often as the store itself probes a Redis that is away.
RETRY_S = 0.25

_log = structlog.get_logger()


class SharedFeeds:
    """The feeds that are followed in this process. `aclose` ends all of them, and the followers with them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._shared: dict[str, _SharedFeed] = {}
        self._is_closed = False

    async def head(self, app_key: str) -> Cursor:
        """The feed's newest place, to follow from later. Raises `StoreUnavailable`."""
        return await Feed(self._client, app_key).head()

    async def read(self, app_key: str, after: Cursor, most: int) -> list[Event]:
        """Up to `most` entries behind a cursor. Raises `FeedReset` and `StoreUnavailable`."""
        return await Feed(self._client, app_key).read(after, most)

    async def follow(self, app_key: str, after: Cursor | None = None) -> AsyncGenerator[Sequence[Event], None]:
        """Yield the entries after `after` in groups, without end; with None, those after the head at the first step.

        Raises `FeedReset` if the cursor can't be read on from. Close it (`contextlib.aclosing`) rather than drop it: the
        shared read ends with its last follower.
        """
        shared = self._joined(app_key)
        try:
            while not self._is_closed:
                # Taken before the look: what comes between the look and the wait rings this one.
                moved = shared.moved
                shared.raise_its_failure()
                try:
                    after = after or await shared.feed.head()
                    events = await shared.behind(after)
                except StoreUnavailable:
                    await asyncio.sleep(RETRY_S)
                    continue
                if events:
                    yield events
                    after = events[-1].cursor
                else:
                    await moved.wait()
        finally:
            await self._leave(app_key, shared)

    def is_cut_off(self, app_key: str) -> bool:
        """Whether the App's followers wait for a Redis that is away."""
        shared = self._shared.get(app_key)
        return shared is not None and shared.is_cut_off

    def waiting(self, app_key: str) -> int:
        """How many of the App's followers wait for something new."""
        shared = self._shared.get(app_key)
        return 0 if shared is None else len(shared.moved.waiting)

    async def aclose(self) -> None:
        """End every follower's loop, and close the connections."""
        self._is_closed = True
        feeds = list(self._shared.values())
        self._shared.clear()
        for shared in feeds:
            await shared.aclose()

    def _joined(self, app_key: str) -> _SharedFeed:
        shared = self._shared.get(app_key)
        if shared is None or shared.has_ended:
            shared = self._shared[app_key] = _SharedFeed(Feed(self._client, app_key))
        shared.followers += 1
        return shared

    async def _leave(self, app_key: str, shared: _SharedFeed) -> None:
        shared.followers -= 1
        if shared.followers == 0:
            # After a bug another one may have taken its place.
            if self._shared.get(app_key) is shared:
                del self._shared[app_key]
            await shared.aclose()


class _SharedFeed:
    """One App's shared read: its task, the newest entries, and the followers that wait for more."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.followers = 0
        self.is_cut_off = False
        self.moved = _Alarm()
        """Set, and replaced, when there is something new to look at."""
        self._start: Cursor | None = None
        """Where `_recent` begins: the place before its first entry."""
        self._recent: list[Event] = []
        self._reading = asyncio.create_task(self._read(), name=f"the feed of {feed.app_key}")
        self._reading.add_done_callback(lambda _: self._wake())

    @property
    def has_ended(self) -> bool:
        """Whether it reads no more, as after a bug."""
        return self._reading.done()

    def raise_its_failure(self) -> None:
        """Followers must not wait for a read that failed on a bug."""
        if self._reading.done() and not self._reading.cancelled():
            self._reading.result()

    async def behind(self, cursor: Cursor) -> Sequence[Event]:
        """Some entries behind a cursor; none if it stands at the newest."""
        at = self._index_behind(cursor)
        if at is not None:
            # A full part again, so that a follower far behind has turns in between.
            return self._recent[at : at + MOST_A_READ]
        recent = self._behind_in_each_slice(cursor) if cursor.rest else None
        return await self.feed.read(cursor, MOST_A_READ) if recent is None else recent[:MOST_A_READ]

    async def aclose(self) -> None:
        """Stop reading, and let those that wait see it."""
        self._reading.cancel()
        try:
            await asyncio.wait([self._reading])
        finally:  # its last follower may be cancelled meanwhile
            await self.feed.aclose()

    async def _read(self) -> None:
        place: Cursor | None = None
        while True:
            try:
                if place is None:
                    place = self._start = await self.feed.head()
                    self._wake()  # something may have come between a follower's first look and this one
                if self.is_cut_off:  # a look that does not wait: Redis may be back long before something happens
                    await self.feed.read(place, 1)
                    self.is_cut_off = False
                events = await self.feed.wait(place, MOST_A_READ, BLOCK_MS)
            except StoreUnavailable:
                self.is_cut_off = True
                await asyncio.sleep(RETRY_S)
            except FeedReset as reset:
                if isinstance(reset, FeedUnreadable):
                    _log.error("a feed's followers must start again", app=self.feed.app_key, problem=str(reset))
                # Each follower checks by itself whether it can read on from its own cursor.
                place, self._start, self._recent = None, None, []
                self._wake()
                await asyncio.sleep(RETRY_S)
            else:
                if events:
                    place = events[-1].cursor
                    self._keep(events)
                    self._wake()
                    if len(events) < MOST_A_READ:
                        await asyncio.sleep(GATHER_S)

    def _keep(self, events: Sequence[Event]) -> None:
        self._recent += events
        too_many = len(self._recent) - RECENT_EVENTS
        if too_many > 0:
            # The last entry that is dropped is the place before the first one that stays.
            self._start = self._recent[too_many - 1].cursor
            del self._recent[:too_many]

    def _index_behind(self, cursor: Cursor) -> int | None:
        """Where the entries behind a cursor begin in `_recent`; None if the cursor does not stand in there."""
        if self._start is None:
            return None
        if cursor == self._start:
            return 0
        # Numbers are contiguous, so the distance is the index; the comparison finds a cursor of another history.
        at = cursor.many - self._start.many
        return at if 0 < at <= len(self._recent) and self._recent[at - 1].cursor == cursor else None

    def _behind_in_each_slice(self, cursor: Cursor) -> list[Event] | None:
        """As `_index_behind`, for who read slices in another order: what it lacks, with its own cursors; None if that is not
        all in `_recent`."""
        if self._start is None or len(cursor.rest) != len(self._start.rest):
            return None
        places, lacking = cursor.places, list[Event]()
        known = [place == start for place, start in zip(places, self._start.places, strict=True)]
        for event in self._recent:
            if len(event.cursor.rest) != len(cursor.rest):
                return None  # more slices came meanwhile
            if event.place.seq > places[event.slice_].seq:
                lacking.append(event)
            elif event.place == places[event.slice_]:
                known[event.slice_] = True
        return following(cursor, lacking) if all(known) else None

    def _wake(self) -> None:
        # Replaced first: a follower that is woken looks again and may wait on the new one at once.
        woken, self.moved = self.moved, _Alarm()
        woken.ring()


class _Alarm:
    """Rings once. Of those that wait, some go on in each pass of the loop: a thousand in one pass took it 10 ms."""

    def __init__(self) -> None:
        self._has_rung = False
        self.waiting: dict[asyncio.Future[None], None] = {}

    async def wait(self) -> None:
        if self._has_rung:
            return
        one: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting[one] = None
        try:
            await one
        finally:
            self.waiting.pop(one, None)

    def ring(self) -> None:
        self._has_rung = True
        woken = list(islice(self.waiting, WOKEN_A_PASS))
        for one in woken:
            del self.waiting[one]
            if not one.done():
                one.set_result(None)
        if self.waiting:
            asyncio.get_running_loop().call_soon(self.ring)
