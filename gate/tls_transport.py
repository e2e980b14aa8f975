"""The transport of an encrypted connection: OpenSSL reads and writes the socket itself, when the loop says that it can.

asyncio's own transport passes each record through two buffers in memory; a batch of 64 checks took 41 us of processor time that
way (measured with `loadtests.micro.tls`), and waits for the peer's answer to the end of a connection. This one takes one read
and one write for a batch, closes as soon as its end is sent, and lets a peer end its own side only, as a plain connection does.

Made by `gate.tls` once the handshake is done. The protocol is a `BufferedProtocol` or a `Protocol`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

READ_BYTES = 64 * 1024
"""Read at once for a `Protocol`; a record has 16 KiB at most."""
WRITE_BYTES = 256 * 1024
"""Given to OpenSSL at once, which makes records of it."""
HIGH_WATER_BYTES = 64 * 1024
"""As asyncio's: from here on the protocol pauses; it goes on below a quarter."""

_LATER = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)


class TlsTransport(asyncio.Transport):
    """See the module."""

    def __init__(self, loop: asyncio.AbstractEventLoop, encrypted: ssl.SSLSocket, peer: Any) -> None:
        """`peer` is the address that was accepted."""
        super().__init__(
            {"peername": peer, "socket": encrypted, "sslcontext": encrypted.context, "ssl_object": encrypted}
        )
        self._loop = loop
        self._socket = encrypted
        # The methods of C: those of `SSLSocket` call them through two functions of Python, which took 1 us each.
        inner: Any = encrypted._sslobj  # type: ignore[attr-defined]
        self.receive: Callable[..., int] = inner.read
        """For the core's poll (`gate/native`), which may read in place of the loop."""
        self.transmit: Callable[[Any], int] = inner.write
        """Likewise. `write` gets what it did not take."""
        self._descriptor = encrypted.fileno()
        self._protocol: Any = None
        self._is_buffered = False
        self._unsent = bytearray()
        self._high, self._low = HIGH_WATER_BYTES, HIGH_WATER_BYTES // 4
        self._is_reading = self._is_writing_paused = self._is_closing = self._is_lost = self._is_ended = False

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell the protocol, and read for it."""
        self.set_protocol(protocol)
        protocol.connection_made(self)
        self.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """As asyncio."""
        self._protocol = protocol
        self._is_buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """As asyncio."""
        found: asyncio.BaseProtocol = self._protocol
        return found

    # Reading

    def is_reading(self) -> bool:
        """Whether it reads now."""
        return self._is_reading

    def pause_reading(self) -> None:
        """Read nothing more; what comes stays in the kernel, which slows the peer down."""
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        """Read again, until the peer's end."""
        if not self._is_reading and not self._is_closing and not self._is_ended:
            self._is_reading = True
            self._loop.add_reader(self._descriptor, self._on_readable)
            # What OpenSSL has read already, data or the peer's end, makes no socket readable.
            self._loop.call_soon(self._on_readable)

    def _on_readable(self) -> None:
        if not self._is_reading:
            return
        protocol = self._protocol
        received: Any
        try:
            if self._is_buffered:
                room = protocol.get_buffer(-1)
                received = self.receive(len(room), room)
            else:
                received = self.receive(READ_BYTES)
        except _LATER:
            return
        except ssl.SSLEOFError:  # the end without OpenSSL's word for it
            received = 0
        except (OSError, ValueError) as fault:
            self._lose(fault)
            return
        try:
            if not received:
                self._end(protocol)
            elif self._is_buffered:
                protocol.buffer_updated(received)
            else:
                protocol.data_received(received)
        except Exception as fault:
            self._lose(fault)
            raise
        if self._socket.pending() and self.is_reading():
            self._loop.call_soon(self._on_readable)

    def _end(self, protocol: Any) -> None:
        self._is_ended = True
        self.pause_reading()
        if not protocol.eof_received():
            self.close()

    # Writing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As asyncio."""
        self._high = HIGH_WATER_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """As asyncio."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Bytes that neither OpenSSL nor the kernel has taken."""
        return len(self._unsent)

    def can_write_eof(self) -> bool:
        """An encrypted connection is ended by `close`."""
        return False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send, or keep what can't be sent yet."""
        if self._is_closing or not data:
            return
        if not self._unsent:
            try:
                sent = self.transmit(data)
            except _LATER:
                sent = 0
            except OSError as fault:
                self._lose(fault)
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
            self._loop.add_writer(self._descriptor, self._on_writable)
        self._unsent += data
        if len(self._unsent) > self._high and not self._is_writing_paused:
            self._is_writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        """Send all of them as one."""
        self.write(b"".join(list_of_data))

    def _on_writable(self) -> None:
        # OpenSSL demands that a write is repeated with the same bytes or more: nothing is removed that it did not take.
        try:
            with memoryview(self._unsent) as unsent:
                sent = self.transmit(unsent[:WRITE_BYTES])
        except _LATER:
            return
        except OSError as fault:
            self._lose(fault)
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._descriptor)
            if self._is_closing:
                self._say_end()
        if self._is_writing_paused and len(self._unsent) <= self._low:
            self._is_writing_paused = False
            self._protocol.resume_writing()

    # The end

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._is_closing

    def close(self) -> None:
        """Send what is left and the end of the connection, then close."""
        if self._is_closing:
            return
        self._is_closing = True
        self.pause_reading()
        if not self._unsent:
            self._say_end()

    def abort(self) -> None:
        """Close now."""
        self._lose(None)

    def _say_end(self) -> None:
        with suppress(OSError, ValueError):  # the peer's answer is not waited for: "want read" is what comes
            self._socket.unwrap()
        self._lose(None)

    def _lose(self, fault: Exception | None) -> None:
        self._is_closing = True
        if self._is_lost:
            return
        self._is_lost = True
        self.pause_reading()
        self._loop.remove_writer(self._descriptor)
        self._unsent.clear()
        self._loop.call_soon(self._report_loss, fault if isinstance(fault, OSError) else None)

    def _report_loss(self, fault: Exception | None) -> None:
        try:
            self._protocol.connection_lost(fault)
        finally:
            self._socket.close()
