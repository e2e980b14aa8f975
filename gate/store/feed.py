"""An App's feed of presence changes and kicks, of all slices, read from a cursor.

A cursor is a place in each slice's feed. If one of them can't be continued without a gap, `FeedReset` is raised
(`slice_feed`), and the reader must read the state again. Nothing is skipped silently. See `gate.core.presence` for the
contents of entries.

Entries of one User come in order. Those of several slices are merged by their moments, which is an order for people. While a
User moves from an old slice to a new one, entries of the old slice come first:

    while Users move  new slices are read before old ones, and their entries come after all those of the old ones
    after that        as long as a cursor is before the ends that the old slices' feeds had then; the growth stream holds them

So a cursor from before or during the growth of the App's Presence stays valid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import merge
from typing import NamedTuple

from gate.core.presence import Cursor, Event, cursor_of, following
from gate.core.slices import UNSLICED, Slicing, slicing_of
from gate.errors import FeedReset, FeedUnreadable
from gate.store import presence_keys as keys
from gate.store.client import Client
from gate.store.feed_news import News
from gate.store.link import Command, Reply
from gate.store.slice_feed import (
    COMMANDS_A_PLACE,
    COMMANDS_A_READ,
    SliceFeed,
    asking_behind,
    asking_head,
    asking_oldest,
    head_of,
    oldest_of,
    read_of,
)

# Read from each slice beyond its share, since slices do not have equally many entries.
MORE_OF_A_SLICE = 16


class _Growth(NamedTuple):
    """Slices that were added, and the ends of the old slices' feeds at that time; None while Users move."""

    slicing: Slicing
    ends: Sequence[tuple[str, int]] | None

    def is_over(self, cursor: Cursor) -> bool:
        """Return whether a reader has all entries of the old slices about moved Users. A restarted feed has none."""
        return self.ends is not None and all(
            place.seq >= seq or (place.seq and place.epoch != epoch)
            for place, (epoch, seq) in zip(cursor.places, self.ends, strict=False)
        )


class Feed:
    """One App's feed. Blocking reads have Links of their own. Call `aclose` when done. Methods may raise `StoreUnavailable`."""

    def __init__(self, client: Client, app_key: str) -> None:
        self.client = client
        self.app_key = app_key
        self._slicing = UNSLICED
        self._growths: Sequence[_Growth] = ()
        self._growth_id = b"0-0"
        self._news = News(client)

    async def head(self) -> Cursor:
        """Return the newest position, after which future entries come. The epoch is "0" before the first entry."""
        return cursor_of([head_of(one) for one in await self._of_each_slice(asking_head, COMMANDS_A_PLACE)])

    async def oldest(self) -> Cursor:
        """Return the oldest position for reading: the beginning, or after the oldest entry that is still kept."""
        return cursor_of([oldest_of(one) for one in await self._of_each_slice(asking_oldest, COMMANDS_A_PLACE)])

    async def read(self, after: Cursor, most: int) -> list[Event]:
        """Return up to `most` entries after a cursor, oldest first; fewer only if there are no more. Raises `FeedReset`."""
        events: list[Event] = []
        while True:
            some, is_end = await self._read_once(after, most - len(events))
            events += some
            if is_end or not some or len(events) >= most:
                return events
            after = some[-1].cursor

    async def wait(self, after: Cursor, most: int, block_ms: int) -> list[Event]:
        """As `read`, but wait up to `block_ms` for the first. Empty if only the slicing changed. Raises `FeedReset`."""
        if found := await self.read(after, most):
            return found
        places = after.over(self._slicing.slices).places
        streams = [{keys.feed(self.app_key, at): b"%d-0" % place.seq} for at, place in enumerate(places)]
        # Also wakes when the App gets more slices.
        streams[0][keys.growth(self.app_key)] = self._growth_id
        # Read from the cursor again, which checks the entry before it: another server may have answered the wait.
        return await self.read(after, most) if await self._news.wait(streams, block_ms) else []

    async def slices(self) -> list[SliceFeed]:
        """Return the feed of each slice."""
        await self._learn()
        return [SliceFeed(self.client, self.app_key, at) for at in range(self._slicing.slices)]

    async def aclose(self) -> None:
        """Close the Links of the blocking reads."""
        await self._news.aclose()

    async def _read_once(self, after: Cursor, most: int) -> tuple[list[Event], bool]:
        """Return some entries, and whether there are no more."""
        while True:
            slices = self._slicing.slices
            # The cursor knows more slices than this process: read the slicing.
            if len(after.places) > slices:
                await self._learn()
                if len(after.places) > self._slicing.slices:
                    raise FeedReset("the App's Presence has fewer slices since then")
                continue
            whole = after.over(slices)
            # An equal share per slice, and some more; the merge below returns at most `most`.
            each = min(most, most // slices + MORE_OF_A_SLICE) if slices > 1 else most
            # Default arguments bind this round's values in the closure below.
            places = whole.places

            def asking(app_key: str, at: int, places: Sequence[Cursor] = places, each: int = each) -> Sequence[Command]:
                return asking_behind(app_key, at, places[at], each)

            replies = await self._once_of_each_slice(asking, COMMANDS_A_READ)
            if replies is not None:
                found = [read_of(places[at], at, one) for at, one in enumerate(replies)]
                if slices == 1:
                    return found[0], len(found[0]) < most
                are_read = all(len(some) < each for some in found)
                merged = self._merged(whole, found, each)
                return merged[:most], are_read and len(merged) == sum(map(len, found)) <= most

    def _merged(self, after: Cursor, found: Sequence[Sequence[Event]], each: int) -> list[Event]:
        """Merge in an order that keeps the order of each User. Entries that must wait for an older slice are left out."""
        position, events, ready = after, list[Event](), list(found[: self._first_slices])

        def emit() -> None:
            nonlocal position
            events.extend(following(position, merge(*ready, key=lambda one: one.cursor.at_us)))
            position = events[-1].cursor if events else position
            ready.clear()

        for growth in self._growths:
            before, slices = growth.slicing.before, growth.slicing.slices
            if not growth.is_over(after):
                emit()
                # While Users move, the new slices are read before these, so the old slices must be read to their end.
                if not (all(len(some) < each for some in found[:before]) or growth.is_over(position)):
                    return events
            ready += found[before:slices]
        emit()
        return events

    @property
    def _first_slices(self) -> int:
        return self._growths[0].slicing.before if self._growths else self._slicing.slices

    async def _of_each_slice(
        self, asking: Callable[[str, int], Sequence[Command]], commands: int
    ) -> list[Sequence[Reply]]:
        while (replies := await self._once_of_each_slice(asking, commands)) is None:
            continue
        return replies

    async def _once_of_each_slice(
        self, asking: Callable[[str, int], Sequence[Command]], commands: int
    ) -> list[Sequence[Reply]] | None:
        """Read new slices before old ones, during a move its targets before its origins. None if the slicing has changed."""
        slicing, replies = self._slicing, list[Sequence[Reply]]()
        groups = [range(slicing.before, slicing.slices), range(slicing.before)] if slicing.before else []
        for slices in groups or [range(slicing.slices)]:
            # New slices first, so that an entry of a moved User never comes without its older ones.
            asked = [command for at in reversed(slices) for command in asking(self.app_key, at)]
            word, *found = await self.client.read(("GET", keys.slices(self.app_key)), *asked)
            if _slicing_of(word) != slicing:
                await self._learn()
                return None
            replies += [found[at : at + commands] for at in range(0, len(found), commands)]
        # Collected newest slice first; callers expect slice 0 first.
        return replies[::-1]

    async def _learn(self) -> None:
        """Read the App's slicing and its history."""
        word, grown = await self.client.read(
            ("GET", keys.slices(self.app_key)), ("XRANGE", keys.growth(self.app_key), "-", "+")
        )
        self._slicing = _slicing_of(word)
        self._growth_id = grown[-1][0] if grown else b"0-0"
        found: dict[Slicing, _Growth] = {}
        for _, (_, packed) in grown:
            slicing, *ends = packed.split()
            known = slicing_of(slicing.decode())
            found[known] = _Growth(known, [_end_of(one) for one in ends] or None)
        # A growth that began while the slicing was read is not known yet; the end of a finished one is in the stream.
        wanted = [one for one in found.values() if one.slicing.slices <= self._slicing.slices]
        self._growths = sorted(wanted, key=lambda one: one.slicing.slices)


def behind(unread: FeedUnreadable, after: Cursor) -> Cursor:
    """Return the cursor after the entries that could not be read, for a reader at `after`."""
    return after.over(unread.slice_ + 1).at(unread.slice_, Cursor(unread.epoch, unread.seq, 0))


def _slicing_of(word: bytes | None) -> Slicing:
    return slicing_of(word.decode()) if word else UNSLICED


def _end_of(packed: bytes) -> tuple[str, int]:
    epoch, seq = packed.decode().split("-")
    return epoch, int(seq)
