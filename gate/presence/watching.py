"""Watched Users: one follower of an App's feed in a process, and an index from a User to the connections that watch it.

An event of a watched User is a reason to read that User's Presence again, once for all who watch it: what a feed entry says may
be older than what a watcher was shown. So a watcher is never left with an older state than the newest event, and the cost is
one read a batch of events, whatever the number of connections. Nothing is read for Users that no connection watches.

    Redis is away          the feed goes on at its cursor when it is back, and reads that failed are repeated
    the feed was reset     entries may have been missed: all watched Users are read again, and count as changed for all
    no watcher is left     the App's feed is not followed any more

Reads of one App are one after another, so that an older state never replaces a newer one. Called by `gate.http.client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing

from gate.core.presence import Cursor, Event, UserPresence
from gate.errors import FeedReset, StoreUnavailable
from gate.presence.shared_feeds import SharedFeeds
from gate.store.presence import PresenceStore

USERS_AT_ONCE = 1_000
"""Of one read, which is some 10 ms of this process."""
RETRY_S = 0.25
BEGUN_WITHIN_S = 1.0
"""A connection waits no longer for the first place in the feed."""


class WatchedUser:
    """A User that somebody in this process watches, and its newest Presence that was read."""

    __slots__ = ("id", "presence", "shown", "watches")

    def __init__(self, user: bytes) -> None:
        self.id = user
        self.presence = UserPresence((), 0, 0)
        self.shown: bytes | None = None
        """What the surface made of `presence`, which it keeps here; None after each read."""
        self.watches: dict[Watch, bytes | None] = {}
        """What each of them was last shown; None if the User is to be shown again."""


class Watch:
    """What one connection watches. `on_change` is called when `changed` gets its first User; it returns at once."""

    def __init__(self, watches: Watches, app_key: str, on_change: Callable[[], None]) -> None:
        self.users: dict[bytes, WatchedUser] = {}
        self.changed: dict[bytes, None] = {}
        """Users to show again, in order. The surface empties it."""
        self._watches = watches
        self._app_key = app_key
        self._on_change = on_change

    async def add(self, users: Sequence[bytes]) -> None:
        """Watch these too, and read their Presence. Raises `StoreUnavailable`; then nothing was added."""
        followed = self._watches.followed(self._app_key)
        # Those that were watched before stay watched if the read fails.
        new = [user for user in users if user not in self.users]
        try:
            await followed.add(self, users)
        except BaseException:
            self.remove(new)
            raise

    def remove(self, users: Iterable[bytes]) -> None:
        """Watch these no more; others are ignored."""
        for user in users:
            watched = self.users.pop(user, None)
            self.changed.pop(user, None)
            if watched is not None:
                self._watches.leave(self._app_key, self, watched)

    def close(self) -> None:
        """Watch nothing any more."""
        self.remove(list(self.users))

    def mark(self, user: bytes) -> None:
        """The User is to be shown again."""
        is_first = not self.changed
        self.changed[user] = None
        if is_first:
            self._on_change()

    def mark_again(self, user: bytes) -> None:
        """The User is to be shown again even if nothing changed."""
        self.users[user].watches[self] = None
        self.mark(user)


class Watches:
    """One a process."""

    def __init__(self, presence: PresenceStore, feeds: SharedFeeds) -> None:
        self._presence = presence
        self._feeds = feeds
        self._apps: dict[str, _AppWatches] = {}

    def new(self, app_key: str, on_change: Callable[[], None]) -> Watch:
        """A connection's watch, of nothing so far."""
        return Watch(self, app_key, on_change)

    def followed(self, app_key: str) -> _AppWatches:
        """The App's index; its feed is followed from here on."""
        found = self._apps.get(app_key)
        if found is None or found.has_ended:
            found = self._apps[app_key] = _AppWatches(app_key, self._presence, self._feeds)
        return found

    def leave(self, app_key: str, watch: Watch, watched: WatchedUser) -> None:
        """A connection watches this User no more."""
        app = self._apps.get(app_key)
        if app is not None:
            app.leave(watch, watched)
            if not app.users:
                del self._apps[app_key]
                app.end()

    @property
    def many(self) -> int:
        """Users that are watched."""
        return sum(len(one.users) for one in self._apps.values())


class _AppWatches:
    """One App's index, and the task that follows its feed."""

    def __init__(self, app_key: str, presence: PresenceStore, feeds: SharedFeeds) -> None:
        self.users: dict[bytes, WatchedUser] = {}
        self._app_key = app_key
        self._presence = presence
        self._feeds = feeds
        self._reading = asyncio.Lock()
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._following = asyncio.create_task(self._follow(), name=f"watched Users of {app_key}")

    @property
    def has_ended(self) -> bool:
        """Whether it follows no more, as after a bug or at the end of the process."""
        return self._following.done()

    async def add(self, watch: Watch, users: Sequence[bytes]) -> None:
        """Index these Users and read them. Raises `StoreUnavailable`."""
        for user in users:
            watched = self.users.get(user)
            if watched is None:
                watched = self.users[user] = WatchedUser(user)
            watched.watches.setdefault(watch)
            watch.users[watched.id] = watched  # the id is one object for all who watch
        # The place to follow from is taken before the read: what happens after the read is behind that place.
        await asyncio.wait([self._begun, self._following], timeout=BEGUN_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if not self._begun.done():
            raise StoreUnavailable("the feed of presence changes can't be followed now")
        await self._read(users)

    def leave(self, watch: Watch, watched: WatchedUser) -> None:
        watched.watches.pop(watch, None)
        if not watched.watches:
            self.users.pop(watched.id, None)

    def end(self) -> None:
        self._following.cancel()

    async def _follow(self) -> None:
        after = await self._head()
        self._begun.set_result(None)
        while True:
            try:
                async with aclosing(self._feeds.follow(self._app_key, after)) as parts:
                    async for events in parts:
                        await self._changed(events)
                        after = events[-1].cursor
                return  # this process ends
            except FeedReset:
                after = await self._head()
                await self.read_all_again()

    async def _head(self) -> Cursor:
        while True:
            try:
                return await self._feeds.head(self._app_key)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)

    async def _changed(self, events: Sequence[Event]) -> None:
        users = {event.user: None for event in events if event.kind != "kick" and event.user in self.users}
        if users:
            for watched in await self._read_in_time(list(users)):
                for watch in watched.watches:
                    watch.mark(watched.id)

    async def read_all_again(self) -> None:
        """Show all watched Users again, as they are now."""
        users = list(self.users)
        for at in range(0, len(users), USERS_AT_ONCE):
            for watched in await self._read_in_time(users[at : at + USERS_AT_ONCE]):
                for watch in watched.watches:
                    watch.mark_again(watched.id)

    async def _read_in_time(self, users: Sequence[bytes]) -> list[WatchedUser]:
        """Read until Redis answers; those that are watched still."""
        while True:
            try:
                await self._read(users)
                return [self.users[user] for user in users if user in self.users]
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)

    async def _read(self, users: Sequence[bytes]) -> None:
        async with self._reading:
            for at in range(0, len(users), USERS_AT_ONCE):
                some = users[at : at + USERS_AT_ONCE]
                presences = await self._presence.presences(self._app_key, some)
                for user, presence in zip(some, presences, strict=True):
                    if (watched := self.users.get(user)) is not None:
                        watched.presence, watched.shown = presence, None
