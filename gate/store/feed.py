"""An App's feed of presence changes and kicks, read from a cursor on.

A cursor is a place behind an entry. Before reading on from it, the entry is looked at: if it is another (Redis went back to an
older file), if entries between are no longer kept, or if the feed has another epoch (Redis lost all), `FeedReset` says so, and
the reader must look at the state anew; nothing is skipped in silence. See `gate.core.presence` for what entries say.

So it is where entries were written by a version of Gate that this one does not understand: `FeedUnreadable`. The place behind
such an entry has no moment, 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from gate.core.presence import Cursor, Event, event_of
from gate.errors import FeedReset, FeedUnreadable, StoreUnavailable
from gate.store import presence_keys as keys
from gate.store.client import Client, raise_if_error
from gate.store.link import Command, Link, LinkLost, Reply

BEGINNING = 0


class Feed:
    """One App's feed. Blocking reads have a Link of their own; `aclose` when done. Methods raise `StoreUnavailable`."""

    def __init__(self, client: Client, app_key: str) -> None:
        self._client = client
        self.app_key = app_key
        self._stream = keys.feed(app_key)
        self._link: Link | None = None

    async def head(self) -> Cursor:
        """The newest place: what happens from now on lies behind it. The epoch is "0" before the first entry."""
        meta, newest = await self._client.read(
            ("HMGET", keys.feed_meta(self.app_key), "epoch", "seq"), ("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
        )
        epoch = (meta[0] or b"0").decode()
        if not newest:
            return Cursor(epoch, int(meta[1] or 0), 0)
        # Its own number: the server may have appended since it told the feed's.
        return _place(epoch, newest[0])

    async def oldest(self) -> Cursor:
        """The oldest place to read on from: the beginning, or behind the oldest entry that is still kept."""
        meta, first = await self._client.read(
            ("HMGET", keys.feed_meta(self.app_key), "epoch", "seq"), ("XRANGE", self._stream, "-", "+", "COUNT", 1)
        )
        epoch = (meta[0] or b"0").decode()
        if not first or _seq_of(first[0][0]) == BEGINNING + 1:
            return Cursor(epoch, BEGINNING, 0)
        return _place(epoch, first[0])

    async def read(self, after: Cursor, most: int) -> list[Event]:
        """Up to `most` entries behind a cursor, the oldest first. Raises `FeedReset`."""
        last = b"%d-0" % after.seq
        meta, there, entries = await self._client.read(
            ("HMGET", keys.feed_meta(self.app_key), "epoch", "seq"),
            ("XRANGE", self._stream, last, last),
            ("XRANGE", self._stream, b"(%b" % last, "+", "COUNT", most),
        )
        epoch, head = (meta[0] or b"0").decode(), int(meta[1] or 0)
        _check(after, epoch, head, there, entries)
        unread = _unreadable(epoch, entries)
        if unread:
            raise FeedUnreadable(epoch, _seq_of(entries[unread - 1][0]), unread)
        return _readable(epoch, entries)

    async def read_oldest(self, most: int) -> list[Event]:
        """The oldest entries that are kept and can be read, up to `most`; for a reader whose cursor is of no use any more."""
        meta, entries = await self._client.read(
            ("HMGET", keys.feed_meta(self.app_key), "epoch", "seq"), ("XRANGE", self._stream, "-", "+", "COUNT", most)
        )
        epoch = (meta[0] or b"0").decode()
        return _readable(epoch, entries[_unreadable(epoch, entries) :])

    async def wait(self, after: Cursor, most: int, block_ms: int) -> list[Event]:
        """As `read`, but waits up to `block_ms` for the first. Raises `FeedReset`."""
        if found := await self.read(after, most):
            return found
        command: Command = (
            "XREAD",
            "COUNT",
            1,
            "BLOCK",
            max(1, block_ms),
            "STREAMS",
            self._stream,
            b"%d-0" % after.seq,
        )
        try:
            if self._link is None or not self._link.is_open:
                self._link = await self._client.open_dedicated()
            (reply,) = await self._link.exchange([command], block_ms + self._client.deadline_ms)
        except LinkLost as loss:
            raise StoreUnavailable(str(loss)) from None
        raise_if_error(reply)
        # Read again from the cursor, which looks at the entry before: the server may have been another one meanwhile.
        return await self.read(after, most) if reply else []

    async def aclose(self) -> None:
        """Close the Link of the blocking reads."""
        if self._link is not None:
            await self._link.aclose()


def behind(unread: FeedUnreadable) -> Cursor:
    """The place behind what could not be read."""
    return Cursor(unread.epoch, unread.seq, 0)


def _check(after: Cursor, epoch: str, head: int, there: Sequence[Reply], entries: Sequence[Reply]) -> None:
    if after.seq == BEGINNING:
        begins_at_1 = _seq_of(entries[0][0]) == 1 if entries else head == 0
        if after.epoch not in ("0", epoch) or not begins_at_1:
            raise FeedReset("entries from the beginning are no longer kept")
        return
    if after.epoch != epoch:
        raise FeedReset("the feed began anew since then")
    if after.seq > head:
        raise FeedReset("the feed went back to a place before that")
    # What was there may have been trimmed before the entries behind it were read.
    if not there or (entries and _seq_of(entries[0][0]) != after.seq + 1):
        raise FeedReset("entries since then are no longer kept")
    if _place(epoch, there[0]) != after:
        raise FeedReset("the feed went back to a place before that, and went on otherwise")


def _readable(epoch: str, entries: Sequence[Reply]) -> list[Event]:
    """Of these, up to the first that can't be read."""
    found: list[Event] = []
    for entry in entries:
        event = _event(epoch, entry)
        if event is None:
            break
        found.append(event)
    return found


def _unreadable(epoch: str, entries: Sequence[Reply]) -> int:
    """How many of these can't be read before the first that can."""
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
    """Out of `<seq>-0`."""
    return int(entry_id[:-2])
