"""How one connection's bytes come and go: by the core's poll (`gate/native`) where there is one, else by the transport.

With the core, the transport reads nothing, and writes only what the kernel did not take at once; an encrypted transport lends
the poll its ways to read and write. So between two writes of its own it has no reason to touch the socket or to close it;
`_is_behind` says that it may have one, and everything that closes it leaves the poll first. At the end of what the peer sends,
or if the poll refuses it, the transport reads again.

An `Outbox` keeps the order of replies where some are still to come, as presence commands give since they ask Redis. It is empty
on a connection that only checks: it is asked on each write, and costs nothing more.

Used by `connection`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gate.errors import GateError
from gate.native import Checks, Socket, Sockets
from gate.tls_transport import TlsTransport
from gate.wire.refusals import refused
from gate.wire.table import PendingReply

# Unsent replies at which a peer counts as not reading.
WRITE_HIGH_WATER_BYTES = 256 * 1024
# Replies that wait, for Redis or for their turn: a gateway's storm of connects goes out in few pipelines.
MAX_AWAITED = 1_024
# Ready replies that wait for their turn count for as many as they fill of these: about 1 MB a connection in all.
BYTES_A_REPLY = 1_024


class Line:
    """See the module."""

    __slots__ = ("_is_behind", "_is_read", "socket", "transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        sockets: Sockets | None,
        on_bytes: Callable[[bytes, bool, bool], None],
        on_used: Callable[[int, int], None],
    ) -> None:
        """`on_bytes` and `on_used` as for `Sockets.add`."""
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self.transport = transport
        self.socket: Socket | None = None
        self._is_behind = False  # the transport may have replies of ours that it has not sent
        self._is_read = True
        if sockets is not None:  # a transport begins to read after it said that the connection is made
            asyncio.get_running_loop().call_soon(self._take_over, sockets, on_bytes, on_used)

    def _take_over(
        self, sockets: Sockets, on_bytes: Callable[[bytes, bool, bool], None], on_used: Callable[[int, int], None]
    ) -> None:
        transport = self.transport
        if transport.is_closing():
            return
        descriptor = transport.get_extra_info("socket").fileno()
        encrypted = (transport.receive, transport.transmit) if isinstance(transport, TlsTransport) else ()
        # From here on the poll reads; what the transport has not sent yet goes out before it writes.
        self.socket = sockets.add(descriptor, on_bytes, self._ended, self._unsent, on_used, *encrypted)
        self._is_behind = transport.get_write_buffer_size() > 0
        if self._is_read:
            transport.pause_reading()
            self._read_on()

    def arm(self, checks: Checks, sync: Callable[[], object]) -> None:
        """Let the core answer the checks that come next, until something else comes."""
        if self.socket is not None and not self._is_behind:
            self.socket.arm(checks, sync)

    def disarm(self) -> None:
        """Hear of whatever comes next."""
        if self.socket is not None:
            self.socket.disarm()

    def write(self, replies: bytes) -> None:
        """Send, or have it sent as soon as that can be."""
        if self.socket is not None:
            if self._is_behind:
                if self.transport.is_closing():
                    return
                self._is_behind = self.transport.get_write_buffer_size() > 0
            if not self._is_behind:
                # The kernel may take a part. The transport sends the rest, when the peer reads.
                sent = self.socket.send(replies)
                if sent == len(replies):
                    return
                replies = replies[sent:]
        self._unsent(replies)

    def pause(self) -> None:
        """Read nothing more for now."""
        if not self._is_read or self.transport.is_closing():
            return
        self._is_read = False
        if self.socket is not None:
            self.socket.pause()
        else:
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._is_read or self.transport.is_closing():
            return
        self._is_read = True
        self._read_on()

    def close(self) -> None:
        """Send what is left, then close."""
        self.leave()
        self.transport.close()

    def abort(self) -> None:
        """Close now."""
        self.leave()
        self.transport.abort()

    def leave(self) -> None:
        """Have nothing more to do with the socket: it is closed, or about to be."""
        socket, self.socket = self.socket, None
        if socket is not None:
            socket.leave()

    def _read_on(self) -> None:
        if self.socket is not None:
            try:
                self.socket.resume()
            except OSError:  # the kernel has no room for one more in the poll
                self.leave()
        if self.socket is None:
            self.transport.resume_reading()

    def _unsent(self, replies: bytes) -> None:
        self._is_behind = True
        try:
            self.transport.write(replies)
        except BaseException:
            self.abort()  # or the next reply would be taken for this one
            raise

    def _ended(self, is_broken: bool) -> None:
        self.socket = None
        if is_broken:
            self.transport.abort()
        elif self._is_read and not self.transport.is_closing():
            self.transport.resume_reading()  # it meets the end, and says so


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
                # It keeps its place: what is behind it waits for it, too.
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
