"""Replies of one connection that wait for their turn, behind one that is still to come.

Empty on a connection that only checks, which is asked on each write and costs it nothing more. Used by `connection`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gate.wire.pending_reply import PendingReply
from gate.wire.refusals import worded

MAX_AWAITED = 1_024
"""Replies that wait, for Redis or for their turn: a gateway's storm of connects goes out in few pipelines."""
BYTES_A_REPLY = 1_024
"""Ready replies that wait for their turn count for as many as they fill of these: about 1 MB a connection in all."""


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
        self.weight += _weight_of(replies)
        self.is_full = self.holds_back or self.weight >= MAX_AWAITED

    def wait_for(self, later: PendingReply) -> None:
        """Keep the place of a reply that is still to come."""
        self.waiting.append(later)
        self.weight += later.weight
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
            if isinstance(head, PendingReply) and not head.arrival.done():
                break
            reply = worded(head) if isinstance(head, PendingReply) else head
            self.weight -= _weight_of(head)
            if isinstance(reply, PendingReply):
                queue[0] = reply
                self.weight += reply.weight
                reply.arrival.add_done_callback(self._on_ready)
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


def _weight_of(waiting: bytes | PendingReply) -> int:
    return waiting.weight if isinstance(waiting, PendingReply) else 1 + len(waiting) // BYTES_A_REPLY
