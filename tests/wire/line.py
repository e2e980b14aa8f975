"""A connection of the RESP port without a socket: its transport records, and each pass of the loop is made by hand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from gate.wire import replies
from gate.wire.client import Worker
from gate.wire.connection import Connection
from gate.wire.listener import WireServer
from gate.wire.turns import Turns
from harness.waiting import wait_until_async


class RecordingTransport:
    """What a connection asks of its transport, written down. `room` is how many bytes its peer takes before it blocks.

    `incoming` is what the peer sent and the connection has not read.
    """

    def __init__(self, room: int = 1 << 30) -> None:
        self.written = b""
        self.incoming = b""
        self.room = room
        self.closed = self.aborted = False
        self.reading = True
        self.connection: Connection | None = None

    def deliver(self) -> bool:
        """One read, if the connection reads and there is something; whether there was."""
        if self.connection is None or not self.reading or self.closed or not self.incoming:
            return False
        buffer = self.connection.get_buffer(-1)
        size = min(len(buffer), len(self.incoming))
        buffer[:size], self.incoming = self.incoming[:size], self.incoming[size:]
        self.connection.buffer_updated(size)
        return True

    def write(self, sent: bytes) -> None:
        assert not self.closed, "written after close"
        self.written += sent
        if len(self.written) > self.room and self.connection is not None:
            self.connection.pause_writing()

    def get_extra_info(self, name: str) -> object:
        return ("10.0.0.1", 7) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Lookout:
    """A watch that lets everybody in."""

    def __init__(self, full: bool = False) -> None:
        self.full = full
        self.watched: set[Connection] = set()

    def opened(self, connection: Connection) -> bool:
        return not self.full

    def closed(self, connection: Connection) -> None:
        self.watched.discard(connection)

    def stalls(self, connection: Connection) -> None:
        self.watched.add(connection)

    def stands(self, connection: Connection) -> None:
        pass


class Line:
    """A connection with its transport and watch. Passes of the loop are made by hand, so that no test needs one."""

    def __init__(
        self, worker: Worker, room: int = 1 << 30, full: bool = False, soon: deque[Callable[[], None]] | None = None
    ) -> None:
        self.worker = worker
        if soon is None:
            soon = deque()
            worker.turns = worker.long_reads.turns = Turns(soon.append)
        self.soon = soon
        self.watch = Lookout(full)
        self.transport = RecordingTransport(room)
        self.connection = Connection(worker, cast("WireServer", self.watch))
        self.transport.connection = self.connection
        self.connection.connection_made(cast(asyncio.Transport, self.transport))

    def of_the_same_worker(self) -> Line:
        """Another connection, whose passes of the loop are the same."""
        return Line(self.worker, soon=self.soon)

    def only_me(self, sent: bytes) -> bytes:
        """What is answered in the read that brings it."""
        before = len(self.transport.written)
        self.transport.incoming += sent
        self.transport.deliver()
        return self.transport.written[before:]

    def send(self, *chunks: bytes) -> bytes:
        """What the chunks are answered at once."""
        before = len(self.transport.written)
        for chunk in chunks:
            self.transport.incoming += chunk
            self.go_on()
        return self.transport.written[before:]

    def go_on(self) -> None:
        """Passes of the loop until nothing more happens by itself."""
        while self.one_pass():
            pass

    def one_pass(self) -> bool:
        """Read once, then call what was to be called soon."""
        happened = self.transport.deliver()
        for _ in range(len(self.soon)):
            self.soon.popleft()()
            happened = True
        return happened

    async def answered(self, size: int) -> bytes:
        def is_answered() -> bool:
            self.go_on()
            return len(self.transport.written) >= size

        await wait_until_async(is_answered, 5, f"{size} bytes of replies")
        return self.transport.written


def command(*words: bytes | str) -> bytes:
    raw = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(map(replies.bulk, raw))


AUTH = command("AUTH", "app", "secret")
