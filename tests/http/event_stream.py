"""A client of `/v1/events`: reads frames as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson
from aiohttp import ClientResponse, ClientSession, TCPConnector
from yarl import URL

from gate.core.model import AppFacts
from tests.http.world import basic

SOON_S = 10.0


class Frame(NamedTuple):
    """One block of a stream. A comment has none of the three."""

    id: str = ""
    event: str = ""
    data: Any = None
    retry: str = ""


class EventStream:
    """An open stream."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.last_id = ""

    async def frame(self) -> Frame:
        """The next block; `EOFError` at the end of the stream."""
        lines: dict[str, str] = {}
        async with asyncio.timeout(SOON_S):
            while line := (await self._line()).rstrip("\n"):
                name, _, value = line.partition(":")
                lines[name] = value.removeprefix(" ")
        self.last_id = lines.get("id", self.last_id)
        data = orjson.loads(lines["data"]) if "data" in lines else None
        return Frame(lines.get("id", ""), lines.get("event", ""), data, lines.get("retry", ""))

    async def event(self) -> Frame:
        """The next block that is an event."""
        while not (frame := await self.frame()).event:
            pass
        return frame

    async def received(self, many: int) -> list[tuple[str, Any]]:
        """Kinds and Users of so many events."""
        frames = [await self.event() for _ in range(many)]
        return [(one.event, one.data.get("user")) for one in frames]

    async def _line(self) -> str:
        line = await self.response.content.readline()
        if not line:
            raise EOFError
        return line.decode()


@asynccontextmanager
async def streaming(
    url: str, app: AppFacts, query: str = "", body: object = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[EventStream]:
    """A stream whose head has been read, hence whose place is known, on a connection of its own."""
    async with ClientSession(connector=TCPConnector(force_close=True)) as session:
        target = URL(f"{url}/v1/events{query}", encoded=True)
        sent = dict(headers or {})
        if "Signature" not in sent:
            sent = basic(app) | sent
        method = "GET" if body is None else "POST"
        async with session.request(method, target, json=body, headers=sent) as response:
            assert response.status == 200, await response.text()
            stream = EventStream(response)
            await stream.frame()
            yield stream
