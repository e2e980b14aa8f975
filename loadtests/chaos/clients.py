"""HTTP and RESP as a client of one node speaks them: one kept connection each, a deadline a call, nothing is repeated.

A library would repeat a request whose connection broke, and the judge must know how often a write was sent.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hiredis

MAX_ANSWER_BYTES = 1 << 20


class NotSent(Exception):
    """The connection was refused: nothing of the call reached the node."""


class Broken(Exception):
    """The connection ended before the answer."""


class Late(Exception):
    """No answer within the deadline."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a node's ports are, and who asks. A planted bug has a proxy here."""

    http_port: int
    resp_port: int
    app_key: str
    app_secret: str


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: dict[str, Any]


class Http:
    """One HTTP connection, opened when it is first needed and again after it broke."""

    def __init__(self, target: Target, within_s: float) -> None:
        self._target = target
        self._within_s = within_s
        token = base64.b64encode(f"{target.app_key}:{target.app_secret}".encode()).decode()
        self._head = f"Host: gate\r\nAuthorization: Basic {token}\r\nContent-Type: application/json\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: object = None) -> Answer:
        """Raises NotSent, Broken or Late."""
        packed = b"" if body is None else json.dumps(body).encode()
        try:
            async with asyncio.timeout(self._within_s):
                reader, writer = self._streams or await self._connect()
                writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(packed)}\r\n\r\n".encode())
                writer.write(packed)
                answer = await _read_answer(reader)
        except TimeoutError:
            self.close()
            raise Late from None
        except (OSError, EOFError, ValueError) as fault:
            self.close()
            raise Broken(repr(fault)) from None
        except BaseException:
            self.close()
            raise
        if answer.headers.get("connection", "") == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            self._streams = await asyncio.open_connection("127.0.0.1", self._target.http_port)
        except OSError as fault:
            raise NotSent(repr(fault)) from None
        return self._streams


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(head[0].split(" ")[1]), headers, json.loads(content) if content else {})


class Resp:
    """One RESP connection, bound to the App."""

    def __init__(self, target: Target, within_s: float) -> None:
        self._target = target
        self._within_s = within_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._replies = hiredis.Reader()

    async def ask(self, commands: Sequence[Sequence[str | bytes]]) -> list[Any]:
        """The replies in order; errors are returned. Raises NotSent, Broken or Late."""
        try:
            async with asyncio.timeout(self._within_s):
                if self._streams is None:
                    await self._connect()
                return await self._exchange(commands)
        except TimeoutError:
            self.close()
            raise Late from None
        except OSError as fault:
            self.close()
            raise Broken(repr(fault)) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _connect(self) -> None:
        try:
            self._streams = await asyncio.open_connection("127.0.0.1", self._target.resp_port)
        except OSError as fault:
            raise NotSent(repr(fault)) from None
        self._replies = hiredis.Reader()
        (reply,) = await self._exchange([("AUTH", self._target.app_key, self._target.app_secret)])
        if reply != b"OK":
            raise NotSent(f"AUTH: {reply!r}")

    async def _exchange(self, commands: Sequence[Sequence[str | bytes]]) -> list[Any]:
        assert self._streams is not None
        reader, writer = self._streams
        writer.write(b"".join(hiredis.pack_command(tuple(one)) for one in commands))  # type: ignore[arg-type]  # the stub takes one word
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._replies.gets()
            if reply is not False:
                replies.append(reply)
                continue
            arrived = await reader.read(65_536)
            if not arrived:
                raise Broken("the node closed the connection")
            self._replies.feed(arrived)
        return replies
