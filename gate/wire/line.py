"""How one connection's bytes come and go: by the core's poll (`gate/native`) where there is one, else by the transport.

With the core, the transport reads nothing, and writes only what the kernel did not take at once; an encrypted transport lends
the poll its ways to read and write. So between two writes of its own it has no reason to touch the socket or to close it;
`_is_behind` says that it may have one, and everything that closes it leaves the poll first. At the end of what the peer sends,
or if the poll refuses it, the transport reads again.

Used by `connection`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gate.native import Checks, Socket, Sockets
from gate.tls_transport import TlsTransport

# Unsent replies at which a peer counts as not reading.
WRITE_HIGH_WATER_BYTES = 256 * 1024


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
