"""A TCP cable between a client and a server that a test can cut, mend, freeze, slow down, half close and point elsewhere.

It runs on a loop and thread of its own: the same calls work from synchronous and from asynchronous tests, and a test
that blocks its own loop does not stop the bytes. Every call returns once its effect is in place.

    client ──▶ 127.0.0.1:cable.port ──▶ upstream
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from harness.ports import LOOPBACK

CHUNK_BYTES = 65_536
# Buffer of one direction while frozen or delayed; past it TCP's back-pressure stops the sender.
MAX_CHUNKS_HELD = 1_024
# A call only schedules work on the cable's own loop; past this the loop itself is stuck.
CALL_TIMEOUT_S = 5.0


class Cable:
    """One listening port forwarded to one upstream port. `close` (or leaving the `with`) ends it."""

    def __init__(self, upstream_port: int, upstream_host: str = LOOPBACK) -> None:
        self._upstream = (upstream_host, upstream_port)
        # Bound for the cable's whole life but never listening, so that no one takes the port while the cable is cut.
        self._reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind((LOOPBACK, 0))
        self.port: int = self._reservation.getsockname()[1]
        self.delay_ms = 0.0
        self._carrying: set[asyncio.Task[None]] = set()
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._half_closed: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"cable-{self.port}", daemon=True)
        self._thread.start()
        self.mend()

    @property
    def url(self) -> str:
        """The Redis URL of the upstream as seen through the cable."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def connection_count(self) -> int:
        return len(self._carrying)

    def cut(self) -> None:
        """Resets every live connection at both ends, and refuses new ones until `mend`."""
        self._call(self._cut())

    def mend(self) -> None:
        """Accepts connections again. Harmless on an intact cable."""
        self._call(self._listen())

    def freeze(self) -> None:
        """A black hole: connections stay open and new ones are accepted, but no byte arrives anywhere."""
        self._call(self._set_flowing(False))

    def thaw(self) -> None:
        """Delivers the buffered bytes, then all others."""
        self._call(self._set_flowing(True))

    def point_to(self, upstream_port: int) -> None:
        """New connections go to that port; open ones stay, as behind a virtual address."""
        self._call(self._point_to(upstream_port))

    def cut_every(self, nth: int) -> None:
        """Resets every `nth` live connection, in the order in which they were opened; 1: all. New ones are accepted."""
        self._call(self._cut_every(nth))

    def half_close(self) -> None:
        """Ends the direction from server to client on every live connection; the other one stays open."""
        self._call(self._half_close())

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        self.cut()
        try:
            yield
        finally:
            self.mend()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._call(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT_S)
        self._loop.close()
        self._reservation.close()

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _call(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(CALL_TIMEOUT_S)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port, limit=CHUNK_BYTES)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        carrying = list(self._carrying)
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    async def _point_to(self, upstream_port: int) -> None:
        self._upstream = (self._upstream[0], upstream_port)

    async def _cut_every(self, nth: int) -> None:
        chosen = list(self._clients)[::nth]
        for task in chosen:
            task.cancel()
        await asyncio.gather(*chosen, return_exceptions=True)

    async def _half_close(self) -> None:
        for client in self._clients.values():
            if not client.is_closing() and client not in self._half_closed:
                self._half_closed.add(client)
                client.write_eof()

    async def _set_flowing(self, is_flowing: bool) -> None:
        if is_flowing:
            self._flowing.set()
        else:
            self._flowing.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not a coroutine: a connection must be known from its first moment, or a cut could miss it."""
        if self._server is None:
            _reset(writer)
            return
        task = self._loop.create_task(self._carry(reader, writer))
        self._carrying.add(task)
        self._clients[task] = writer
        # A task cancelled before its first step does not run its own clean-up.
        task.add_done_callback(lambda done: self._hang_up(done, writer))

    def _hang_up(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self._carrying.discard(task)
        self._clients.pop(task, None)
        self._half_closed.discard(writer)
        if task.cancelled() or task.exception() is not None:
            _reset(writer)
        else:
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from accept to the first end that closes, or to the cut. OSError if the upstream is down."""
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream, limit=CHUNK_BYTES)
        there = self._loop.create_task(self._pump(reader, upstream_writer))
        back = self._loop.create_task(self._pump(upstream_reader, writer))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            _reset(upstream_writer)
            raise
        finally:
            await _end(there, back)
            upstream_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one direction; each chunk arrives `delay_ms` after it was read, however many are on their way."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_CHUNKS_HELD)
        delivery = self._loop.create_task(self._deliver(held, writer))
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                await held.put((self._loop.time() + self.delay_ms / 1000, chunk))
            await held.put((self._loop.time() + self.delay_ms / 1000, b""))
            await delivery
        finally:
            await _end(delivery)

    async def _deliver(self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due_s, chunk = await held.get()
            await asyncio.sleep(max(0.0, due_s - self._loop.time()))
            await self._flowing.wait()
            if not chunk:
                return
            if writer not in self._half_closed:
                writer.write(chunk)
                await writer.drain()


async def _end(*tasks: asyncio.Task[None]) -> None:
    """Cancels and awaits tasks, and retrieves their results, so that asyncio reports none as never retrieved."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes at once and drops unsent bytes: the peer sees a reset, as after a failure of a cable or a machine."""
    transport = writer.transport
    peer = transport.get_extra_info("socket")
    if peer is not None and not transport.is_closing():
        # A linger of zero seconds turns the close into a TCP reset.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    transport.abort()
