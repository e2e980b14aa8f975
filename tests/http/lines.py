"""Connections of a test's own to an HTTP server, for exact bytes both ways."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from gate.core.model import FOREVER_MS, ListKind
from gate.http.context import Deps
from gate.http.options import HttpOptions
from gate.http.server import HttpServer, serve_http
from tests.http.test_server import deps_of
from tests.http.world import World, basic, now_ms

WITHIN_S = 10.0
PROBE = b"GET /healthz HTTP/1.1\r\nHost: gate\r\n\r\n"
"""Sent ahead of a request, it keeps the short way from it: that answers while nothing else is being answered."""

Sent = dict[str, str]


class Line:
    """One connection to a server, that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, server: HttpServer) -> Line:
        return cls(*await asyncio.open_connection(server.host, server.port))

    async def ask(self, *requests: bytes) -> list[bytes]:
        """Send these at once; the whole answer to each, fewer if the server ends the connection."""
        self._writer.write(b"".join(requests))
        return [answer for request in requests if (answer := await self._answer(request))]

    async def send(self, some: bytes) -> None:
        """Send some bytes of a request."""
        self._writer.write(some)
        await self._writer.drain()

    async def _answer(self, request: bytes) -> bytes:
        try:
            head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), WITHIN_S)
        except asyncio.IncompleteReadError as fault:
            return fault.partial
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        if length is None or (request.startswith(b"HEAD") and head.startswith(b"HTTP/1.1")):
            return head
        return head + await self._reader.readexactly(int(length[1]))

    async def is_ended(self) -> bool:
        return not await asyncio.wait_for(self._reader.read(1), WITHIN_S)

    def end(self) -> None:
        self._writer.close()


def a_check(world: World, query: str = "from=a&to=b", headers: Sent | None = None) -> bytes:
    return a_request(f"GET /v1/check?{query} HTTP/1.1", basic(world.app) if headers is None else headers)


def a_request(line: str, headers: Sent) -> bytes:
    lines = [line, "Host: gate", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"


def the_same(answer: bytes) -> bytes:
    """The answer without what differs by moment or by chance."""
    answer = re.sub(rb"\r\nDate: [^\r]+GMT", b"\r\nDate: now", answer)
    return re.sub(rb"\r\nX-Request-Id: [0-9a-f]{32}\r", b"\r\nX-Request-Id: own\r", answer)


async def impose_facts(world: World) -> None:
    key, now = world.app.key, now_ms()
    await world.store.bans.impose(key, [b"banned"], now + 600_000, now)
    await world.store.bans.impose(key, [b"\xff\x00"], FOREVER_MS, now)
    await world.store.mutes.impose(key, [b"muted"], FOREVER_MS, now)
    written = await world.store.lists.add(key, ListKind.BLACKLIST, b"b", [b"a b"], now + 600_000, now, 1_000)
    await world.node.acks.wait(written, 5_000)


async def served(world: World, **options: Any) -> tuple[HttpServer, Deps]:
    deps = deps_of(world, HttpOptions(port=0, **options))
    return await serve_http(deps), deps
