"""The feed of one slice of an App's Presence: its commands and the parsing of replies. See `feed` for the whole feed.

Before reading on from a position, the entry there is checked. `FeedReset` is raised if it is another one (Redis went back to an
older file), if entries in between are no longer kept, or if the feed has another epoch (Redis lost all). `FeedUnreadable` is
raised if entries were written by a version of Gate that this one can't read. The position after such an entry has the moment 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from gate.core.presence import Cursor, Event, event_of
from gate.errors import FeedReset, FeedUnreadable
from gate.store import presence_keys as keys
from gate.store.client import Client
from gate.store.link import Command, Reply

BEGINNING = 0
COMMANDS_A_READ, COMMANDS_A_PLACE = 3, 2


class SliceFeed(NamedTuple):
    """One slice's feed. Methods may raise `StoreUnavailable`."""

    client: Client
    app_key: str
    at: int

    async def oldest(self) -> Cursor:
        """Return the oldest position for reading: the beginning, or after the oldest entry that is still kept."""
        return oldest_of(await self.client.read(*asking_oldest(self.app_key, self.at)))

    async def read(self, after: Cursor, most: int) -> list[Event]:
        """Return up to `most` entries after a position, oldest first; their cursors are positions. Raises `FeedReset`."""
        return read_of(after, self.at, await self.client.read(*asking_behind(self.app_key, self.at, after, most)))

    async def read_oldest(self, most: int) -> list[Event]:
        """Return the oldest kept and readable entries, up to `most`, for a reader whose position is no longer valid."""
        meta, entries = await self.client.read(
            _meta(self.app_key, self.at), ("XRANGE", keys.feed(self.app_key, self.at), "-", "+", "COUNT", most)
        )
        epoch = (meta[0] or b"0").decode()
        return _readable(epoch, self.at, entries[_unreadable(epoch, entries) :])


def asking_behind(app_key: str, at: int, after: Cursor, most: int) -> Sequence[Command]:
    """Return the commands for `read_of`."""
    stream, last = keys.feed(app_key, at), b"%d-0" % after.seq
    return (
        _meta(app_key, at),
        # The entry at the position itself, to compare with.
        ("XRANGE", stream, last, last),
        ("XRANGE", stream, b"(%b" % last, "+", "COUNT", most),
    )


def read_of(after: Cursor, at: int, replies: Sequence[Reply]) -> list[Event]:
    """Return the entries. Raises `FeedReset`."""
    meta, there, entries = replies
    epoch, head = (meta[0] or b"0").decode(), int(meta[1] or 0)
    _check(after, epoch, head, there, entries)
    unread = _unreadable(epoch, entries)
    if unread:
        raise FeedUnreadable(epoch, _seq_of(entries[unread - 1][0]), unread, at)
    return _readable(epoch, at, entries)


def asking_head(app_key: str, at: int) -> Sequence[Command]:
    """Return the commands for `head_of`."""
    return _meta(app_key, at), ("XREVRANGE", keys.feed(app_key, at), "+", "-", "COUNT", 1)


def head_of(replies: Sequence[Reply]) -> Cursor:
    """Return the newest position. The epoch is "0" before the first entry."""
    meta, newest = replies
    epoch = (meta[0] or b"0").decode()
    # The entry's own number: the server may have appended since it returned the meta data.
    return _place(epoch, newest[0]) if newest else Cursor(epoch, int(meta[1] or 0), 0)


def asking_oldest(app_key: str, at: int) -> Sequence[Command]:
    """Return the commands for `oldest_of`."""
    return _meta(app_key, at), ("XRANGE", keys.feed(app_key, at), "-", "+", "COUNT", 1)


def oldest_of(replies: Sequence[Reply]) -> Cursor:
    """See `SliceFeed.oldest`."""
    meta, first = replies
    epoch = (meta[0] or b"0").decode()
    if not first or _seq_of(first[0][0]) == BEGINNING + 1:
        return Cursor(epoch, BEGINNING, 0)
    return _place(epoch, first[0])


def _meta(app_key: str, at: int) -> Command:
    return "HMGET", keys.feed_meta(app_key, at), "epoch", "seq"


def _check(after: Cursor, epoch: str, head: int, there: Sequence[Reply], entries: Sequence[Reply]) -> None:
    if after.seq == BEGINNING:
        # The beginning is readable only while the first entry is kept.
        begins_at_1 = _seq_of(entries[0][0]) == 1 if entries else head == 0
        if after.epoch not in ("0", epoch) or not begins_at_1:
            raise FeedReset("entries from the beginning are no longer kept")
        return
    if after.epoch != epoch:
        raise FeedReset("the feed began again since then")
    if after.seq > head:
        raise FeedReset("the feed went back to an earlier position")
    # The entry may have been trimmed before those after it were read.
    if not there or (entries and _seq_of(entries[0][0]) != after.seq + 1):
        raise FeedReset("entries since then are no longer kept")
    if _place(epoch, there[0]) != after:
        raise FeedReset("the feed went back to an earlier position, and continued differently")


def _readable(epoch: str, at: int, entries: Sequence[Reply]) -> list[Event]:
    """Return the events up to the first one that can't be read."""
    found: list[Event] = []
    for entry in entries:
        event = _event(epoch, entry)
        if event is None:
            break
        found.append(event._replace(slice_=at) if at else event)
    return found


def _unreadable(epoch: str, entries: Sequence[Reply]) -> int:
    """Return how many of these can't be read before the first that can."""
    return sum(1 for _ in takewhile(lambda entry: _event(epoch, entry) is None, entries))


def _place(epoch: str, entry: Reply) -> Cursor:
    event = _event(epoch, entry)
    return Cursor(epoch, _seq_of(entry[0]), 0) if event is None else event.cursor


def _event(epoch: str, entry: Reply) -> Event | None:
    try:
        return event_of(epoch, _seq_of(entry[0]), entry[1])
    except ValueError:
        return None


def _seq_of(entry_id: bytes) -> int:
    """Parse the sequence number of `<seq>-0`."""
    return int(entry_id[:-2])
