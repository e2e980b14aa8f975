"""Replies that are still to come, as presence commands give since they ask Redis, and what waits its turn behind them.

A connection keeps the place of a `PendingReply` among its replies in its `Outbox`, which is empty on a connection that only
checks: it is asked on each write, and costs nothing more. Used by `connection`, and by the commands that wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from gate.errors import GateError
from gate.wire.refusals import refused

# Replies that wait, for Redis or for their turn: a gateway's storm of connects goes out in few pipelines.
MAX_AWAITED = 1_024
# Ready replies that wait for their turn count for as many as they fill of these: about 1 MB a connection in all.
BYTES_A_REPLY = 1_024


class PendingReply(msgspec.Struct, frozen=True):
    """Once `arrival` is done, `word` gives the reply, or raises a `GateError` (an error reply), or says what else to wait for.

    `holds_back`: what follows on the connection may depend on it, so it waits. `abandon` is called if the peer is
    gone first or may be, perhaps more than once, perhaps before `word`.
    `cancel` is called once it certainly is, and `hurry` if the answer should come now: its peer said its last word, or the
    worker drains. `listens`: it takes long, so that the peer's end has to be noticed meanwhile.
    `weight` is how many small replies it counts for where the bound on what a connection waits for is kept.
    """

    arrival: asyncio.Future[Any]
    word: Callable[[], bytes | PendingReply]
    holds_back: bool = False
    abandon: Callable[[], object] | None = None
    cancel: Callable[[], object] | None = None
    hurry: Callable[[], object] | None = None
    listens: bool = False
    weight: int = 1


class Outbox:
    """In order; `on_ready` is called when something may have become ready."""

    __slots__ = ("_last", "_on_ready", "holds_back", "is_abandoned", "is_full", "waiting", "weight")

    def __init__(self, on_ready: Callable[[object], None]) -> None:
        self.waiting: deque[bytes | PendingReply] = deque()
        """Asked on each read: its own truth is quicker than this object's."""
        self.weight = 0
        self._on_ready = on_ready
        self._last: object = None
        self.is_abandoned = False
        self.holds_back = False
        """Something waits that later commands may depend on."""
        self.is_full = False
        """Whether no more commands should be taken up. Kept up to date, as it is asked far more often than it changes."""

    def __len__(self) -> int:
        return len(self.waiting)

    def put(self, replies: bytes) -> None:
        """Replies whose turn is behind what waits."""
        self.waiting.append(replies)
        self.weight += 1 + len(replies) // BYTES_A_REPLY
        self.is_full = self.holds_back or self.weight >= MAX_AWAITED

    def wait_for(self, later: PendingReply) -> None:
        """Keep the place of a reply that is still to come."""
        self.waiting.append(later)
        self.weight += later.weight
        # One callback for all of a batch: in a storm there are 512 replies of one arrival.
        if later.arrival is not self._last:  # calls of one batch share one
            self._last = later.arrival
            later.arrival.add_done_callback(self._on_ready)
        self.holds_back = self.holds_back or later.holds_back
        self.is_full = self.holds_back or self.weight >= MAX_AWAITED
        if self.is_abandoned and later.hurry is not None:
            later.hurry()
        if self.is_abandoned and later.abandon is not None:
            later.abandon()

    def take_ready(self) -> bytes:
        """What has its turn now."""
        queue, ready = self.waiting, []
        while queue:
            head = queue[0]
            if isinstance(head, PendingReply):
                if not head.arrival.done():
                    break
                weight = head.weight
                try:
                    reply = head.word()
                except GateError as refusal:
                    reply = refused(refusal)
            else:
                reply, weight = head, 1 + len(head) // BYTES_A_REPLY
            self.weight -= weight
            if isinstance(reply, PendingReply):
                queue[0] = reply
                self.weight += reply.weight
                reply.arrival.add_done_callback(self._on_ready)
                if self.is_abandoned and reply.abandon is not None:
                    reply.abandon()  # its peer's last word came before this was known to be waited for
                break
            queue.popleft()
            ready.append(reply)
        self.holds_back = self.holds_back and bool(queue)
        self.is_full = self.holds_back or self.weight >= MAX_AWAITED
        return b"".join(ready)

    def abandon_pending(self) -> None:
        """The peer has said its last word, and may be gone: what must not be without somebody who knows of it is undone."""
        self.is_abandoned = True
        self.hurry()
        for awaited in self.waiting:
            if isinstance(awaited, PendingReply) and awaited.abandon is not None:
                awaited.abandon()

    def hurry(self) -> None:
        """What waits for something that may not come is answered now."""
        for awaited in self.waiting:
            if isinstance(awaited, PendingReply) and awaited.hurry is not None:
                awaited.hurry()

    def abandon(self) -> None:
        """The peer disconnected: cancel the pending replies."""
        self.abandon_pending()
        for awaited in self.waiting:
            if isinstance(awaited, PendingReply) and awaited.cancel is not None:
                awaited.cancel()
        self.waiting.clear()
        self.weight = 0
        self.holds_back = self.is_full = False
