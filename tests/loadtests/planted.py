"""Bugs that `make chaos` must catch, planted from outside: a proxy in front of one node that lies as its `lie` says.

It runs on a thread and loop of its own. Without a lie it passes everything on.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import hiredis

from harness.ports import LOOPBACK
from loadtests.chaos.clients import Target

CALL_TIMEOUT_S = 5.0
WRITES = (b"POST /v1/bans", b"POST /v1/mutes", b"POST /v1/blacklist", b"DELETE ")
CACHED = (b"GATE.VERDICT", b"GATE.EXPLAIN")


@dataclass(frozen=True)
class Lie:
    """What is wrong; zero: nothing."""

    cached_for_s: float = 0.0
    """Verdicts on the RESP port are kept for so long."""
    early_s: float = 0.0
    """A write is answered `all` so long before it is made."""
    share_dropped: float = 0.0
    """Of the writes, so many are answered `all` and never made."""
    share_refused: float = 0.0
    """So many are made, and answered as not made."""


class Liar:
    """In front of one node."""

    def __init__(self, target: Target, seed: int) -> None:
        self.lie = Lie()
        self._behind = target
        self._chance = random.Random(seed)
        self._cache: dict[tuple[bytes, ...], tuple[float, bytes]] = {}
        self._answer = b""
        self._clients: set[asyncio.StreamWriter] = set()
        self._later: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        http = asyncio.start_server(self._serve(self._http), LOOPBACK, 0)
        resp = asyncio.start_server(self._serve(self._resp), LOOPBACK, 0)
        self._servers: list[asyncio.Server] = [self._call(http), self._call(resp)]
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        self.target = replace(target, http_port=ports[0], resp_port=ports[1])

    def close(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT_S)
        self._loop.close()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for client in self._clients:
            client.transport.abort()  # a cancelled task of a stream would be logged as a failure
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=CALL_TIMEOUT_S / 2)

    def _call(self, step: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(CALL_TIMEOUT_S)

    def _serve(self, carry: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._clients.add(writer)
            try:
                await carry(reader, writer)
            except (OSError, EOFError):
                pass
            finally:
                self._clients.discard(writer)
                writer.close()

        return serve

    async def _resp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection(LOOPBACK, self._behind.resp_port)
        asked, replies = hiredis.Reader(), hiredis.Reader()
        try:
            while arrived := await reader.read(65_536):
                asked.feed(arrived)
                while (command := asked.gets()) is not False:
                    writer.write(await self._reply(tuple(command), behind, replies))
        finally:
            behind[1].close()

    async def _reply(self, command: tuple[bytes, ...], behind: Any, replies: hiredis.Reader) -> bytes:
        kept = self._cache.get(command)
        if kept is not None and time.monotonic() - kept[0] < self.lie.cached_for_s:
            return kept[1]
        behind[1].write(hiredis.pack_command(command))  # type: ignore[arg-type]  # the stub takes one word
        while (reply := replies.gets()) is False:
            arrived = await behind[0].read(65_536)
            if not arrived:
                raise EOFError
            replies.feed(arrived)
        packed = _packed(reply)
        if command[0] in CACHED:
            self._cache[command] = (time.monotonic(), packed)
        return packed

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection(LOOPBACK, self._behind.http_port)
        try:
            while True:
                request = await _message(reader)
                is_write = request.startswith(WRITES)
                writer.write(await self._answered(request, behind) if is_write else await _passed(request, behind))
        finally:
            behind[1].close()

    async def _answered(self, request: bytes, behind: Any) -> bytes:
        chance = self._chance.random()
        if self._answer and chance < self.lie.share_dropped:
            return self._answer
        if self._answer and self.lie.early_s:
            later = self._loop.create_task(self._make_later(request))
            self._later.add(later)
            later.add_done_callback(self._later.discard)
            return self._answer
        answer = await _passed(request, behind)
        if answer.startswith(b"HTTP/1.1 200"):
            self._answer = answer
        if chance < self.lie.share_refused:
            body = b'{"error":"unavailable","message":"Redis is away"}'
            return b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        return answer

    async def _make_later(self, request: bytes) -> None:
        await asyncio.sleep(self.lie.early_s)
        behind = await asyncio.open_connection(LOOPBACK, self._behind.http_port)
        await _passed(request, behind)
        behind[1].close()


async def _passed(request: bytes, behind: Any) -> bytes:
    behind[1].write(request)
    return await _message(behind[0])


async def _message(reader: asyncio.StreamReader) -> bytes:
    """A request or an answer, whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + (await reader.readexactly(int(lengths[0])) if lengths else b"")


def _packed(reply: Any) -> bytes:
    """In RESP2."""
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(_packed, reply))
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, Exception):
        return b"-%b\r\n" % str(reply).encode()
    return b"$-1\r\n" if reply is None else b"$%d\r\n%b\r\n" % (len(reply), reply)
