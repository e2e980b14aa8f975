"""`GATE.EVENTS cursor|$ [COUNT n] [GATEWAY name] [BLOCK ms]`: what happened since a cursor, or happens next.

Without BLOCK it is one look. With it, and nothing to answer, the connection waits: all that wait for one App share one read of
Redis, and what they are answered is written in turns, since one event wakes all of them. The wait ends with an empty answer
after `ms`, when the peer sends no more, and when the worker drains.

Called by `commands`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import NamedTuple

from gate.core.ids import shown
from gate.core.presence import Cursor, Event, parse_cursor, parse_gateway
from gate.core.scopes import PRESENCE
from gate.errors import FeedReset, InvalidInput, Unavailable
from gate.wire import replies
from gate.wire.client import Client, Reply, Worker
from gate.wire.table import PendingReply
from gate.wire.turns import in_turn

# Read and written at a time: 1.5 ms of a worker's time, between which others have their turns.
EVENTS_A_PIECE = 100
# Entries of the feed that one GATE.EVENTS reads. Without COUNT it reads `DEFAULT_EVENTS`, or `MAX_EVENTS` with GATEWAY, since
# few entries concern one Gateway: by a hundred, one that asks fifty times a second falls behind in a storm, until RESET.
MAX_EVENTS, DEFAULT_EVENTS = 1_000, 100
# How long one call may wait: a minute is what idle connections survive in nearly every network.
MAX_BLOCK_MS = 60_000
# Connections of one worker that wait at the same time: an event that wakes all of them costs it some 20 ms, in turns.
MAX_WAITING = 1_024

_SYNTAX = "syntax", "expected GATE.EVENTS cursor|$ [COUNT n] [GATEWAY name] [BLOCK ms]"


class _Options(NamedTuple):
    most: int
    gateway: bytes | None
    block_ms: int


def weight(arguments: Sequence[bytes]) -> int:
    """In a transaction: as many checks as there may be events. Refuses what would wait there."""
    if any(one.upper() == b"BLOCK" for one in arguments[1::2]):
        raise Reply(
            "ERR GATE.EVENTS with BLOCK is not allowed inside a transaction: leave BLOCK out, or send it before MULTI"
        )
    return MAX_EVENTS


def events(client: Client, arguments: Sequence[bytes]) -> PendingReply:
    """→ the next cursor, and what happened in between.

    With GATEWAY only kicks of that Gateway's Sessions. `$` is the newest cursor. A thousand events are long, so what follows on
    the connection waits.
    """
    options = _options(arguments[1:])
    after = None if arguments[0] == b"$" else parse_cursor(arguments[0].decode("latin-1"))
    client.session_service()
    if options.block_ms:
        _refuse_one_too_many(client.worker)
    # Reads the App now: in a task it would be outside of the bracket.
    look = _Look(client, options)
    reading = asyncio.get_running_loop().create_task(look.answered(after))
    reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # the peer may be gone by then
    return PendingReply(
        reading,
        reading.result,
        holds_back=True,
        cancel=reading.cancel,
        hurry=look.hurry,
        listens=options.block_ms > 0,
    )


def _refuse_one_too_many(worker: Worker) -> None:
    if worker.waiting_for_events >= MAX_WAITING:
        raise Unavailable(
            f"{MAX_WAITING} connections wait in GATE.EVENTS on this worker: ask without BLOCK, or share one connection"
        )


class _Look:
    """One call."""

    def __init__(self, client: Client, options: _Options) -> None:
        self._client = client
        self._worker = client.worker
        self._service = client.session_service()
        self._app_key = client.app().app.key
        self._resp3 = client.resp3
        self._most, self._gateway, self._block_ms = options
        self._looked_at = 0
        self._written: list[bytes] = []
        self._cursor: Cursor | None = None
        self._limit: asyncio.Timeout | None = None  # while it waits
        self._is_hurried = False

    def hurry(self) -> None:
        """Answer what there is."""
        self._is_hurried = True
        if self._limit is not None and not self._limit.expired():
            # The wait ends as if its time were over, in the next pass of the loop.
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def answered(self, after: Cursor | None) -> bytes:
        feed = self._service.feed(self._app_key)
        self._cursor = after or await feed.head()
        if after is not None:
            # Also with BLOCK: what is there already is answered at once.
            await self._look_back()
        if self._block_ms and not (self._written or self._is_hurried or self._worker.draining):
            await self._wait(self._cursor)
            self._refuse_if_dropped()
        header = replies.array_header(2), replies.bulk(str(self._cursor)), replies.array_header(len(self._written))
        return b"".join((*header, *self._written))

    async def _look_back(self) -> None:
        assert self._cursor is not None
        feed = self._service.feed(self._app_key)
        while self._looked_at < self._most:
            piece = min(EVENTS_A_PIECE, self._most - self._looked_at)
            try:
                found = await feed.read(self._cursor, piece)
            except FeedReset:
                if not self._looked_at:
                    raise
                break  # trimmed just now: the next call is refused
            self._take(found)
            if len(found) < piece:
                break

    async def _wait(self, after: Cursor) -> None:
        step = min(EVENTS_A_PIECE, self._most)
        _refuse_one_too_many(self._worker)  # once more: many may have looked back at the same time
        self._worker.waiting_for_events += 1
        try:
            async with (
                asyncio.timeout(self._block_ms / 1_000) as self._limit,
                aclosing(self._service.follow(self._app_key, after)) as news,
            ):
                async for some in news:
                    for at in range(0, len(some), step):
                        piece = some[at : at + step]
                        # Bound as a default: the name has another value once the turn comes.
                        await in_turn(self._worker.turns, lambda piece=piece: self._take(piece))  # type: ignore[misc]
                        if self._written:
                            return
        except TimeoutError:
            if not self._limit or not self._limit.expired():
                raise
        finally:
            self._limit = None
            self._worker.waiting_for_events -= 1

    def _refuse_if_dropped(self) -> None:
        """The App, its secret or the key may be gone since the wait began: its events are not for this peer any more then."""
        self._worker.begin()
        try:
            self._client.permit(PRESENCE)
        finally:
            self._worker.reading.release()

    def _take(self, found: Sequence[Event]) -> None:
        for one in found:
            # Its Gateway need not report kicks: from here on the Session is not brought back.
            if one.kind == "kick":
                self._service.forget((self._app_key, one.gateway), one.session)
            if self._gateway is None or (one.kind == "kick" and one.gateway == self._gateway):
                self._written.append(replies.encode(_shown(one), self._resp3))
        if found:
            self._cursor = found[-1].cursor
            self._looked_at += len(found)


def _options(options: Sequence[bytes]) -> _Options:
    most: int | None = None
    gateway: bytes | None = None
    block_ms = 0
    if len(options) % 2:
        raise InvalidInput(*_SYNTAX)
    for name, value in zip(options[::2], options[1::2], strict=True):
        word = name.upper()
        if word == b"COUNT":
            most = _whole_number("COUNT", value, MAX_EVENTS)
        elif word == b"GATEWAY":
            gateway = parse_gateway(value)
        elif word == b"BLOCK":
            block_ms = _whole_number("BLOCK", value, MAX_BLOCK_MS)
        else:
            raise InvalidInput("syntax", f"expected COUNT, GATEWAY or BLOCK, got {shown(name[:40])!r}")
    return _Options(most or (DEFAULT_EVENTS if gateway is None else MAX_EVENTS), gateway, block_ms)


def _whole_number(name: str, value: bytes, most: int) -> int:
    # The length first: `int` refuses thousands of digits with an error of its own.
    if not value.isdigit() or len(value) > 8 or not 1 <= int(value) <= most:
        raise InvalidInput(name, f"must be a whole number from 1 to {most}, got {shown(value[:40])!r}")
    return int(value)


def _shown(event: Event) -> dict[str, replies.Value]:
    return {
        "cursor": str(event.cursor),
        "kind": event.kind,
        "user": event.user,
        "session": event.session,
        "platform": event.platform,
        "gateway": event.gateway,
        "why": event.why,
        "at": event.at_ms,
    }
