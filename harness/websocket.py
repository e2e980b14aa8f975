"""A client of `/client/v1/connect`, frame by frame: it can send frames that no library would, and answers only on request."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import orjson

PATH = "/client/v1/connect"
PATIENCE_S = 15.0
CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL = 0x80


class Refused(Exception):
    """At the handshake: the answer to it."""

    def __init__(self, status: int, headers: dict[str, str], body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.headers = headers
        self.body = body


class Closed(NamedTuple):
    """How the server closed: its last message, and the code of its close frame; None if there was none of them."""

    said: dict[str, Any] | None
    code: int | None


class Frame(NamedTuple):
    """One that came."""

    opcode: int
    payload: bytes


class Socket:
    """An open connection; `welcome` is its first message."""

    welcome: dict[str, Any]
    headers: dict[str, str]
    """Of the answer to the handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def session(self) -> str:
        """Its id."""
        session: str = self.welcome["session"]
        return session

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The answer to one message."""
        self.send(TEXT, orjson.dumps({"type": kind, **fields}))
        return await self.next_message()

    def send(self, opcode: int, payload: bytes = b"", first: int = FINAL, masked: bool = True) -> None:
        """Send one frame as given."""
        mask = os.urandom(4)
        size = len(payload)
        length = size if size < 126 else 126 if size < 1 << 16 else 127
        head = bytes([first | opcode, length | (FINAL if masked else 0)])
        head += b"" if length < 126 else struct.pack(">H" if length == 126 else ">Q", size)
        if masked:
            key = (mask * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
            head += mask
        self.writer.write(head + payload)

    async def frame(self, patience_s: float | None = PATIENCE_S) -> Frame:
        """The next frame; `EOFError` where the connection ended."""
        async with asyncio.timeout(patience_s):
            try:
                first, length = await self.reader.readexactly(2)
                if length == 126:
                    (length,) = struct.unpack(">H", await self.reader.readexactly(2))
                elif length == 127:
                    (length,) = struct.unpack(">Q", await self.reader.readexactly(8))
                return Frame(first & 0xF, await self.reader.readexactly(length))
            except (asyncio.IncompleteReadError, ConnectionError) as end:
                raise EOFError from end

    async def next_message(self) -> dict[str, Any]:
        """The next message. Pings that come before it are answered."""
        while (frame := await self.frame()).opcode == PING:
            self.send(PONG, frame.payload)
        if frame.opcode == CLOSE:
            raise EOFError(f"closed with {int.from_bytes(frame.payload[:2], 'big')}")
        assert frame.opcode == TEXT, frame
        said: dict[str, Any] = orjson.loads(frame.payload)
        return said

    async def closed(self) -> Closed:
        """Until the server closes it."""
        said = None
        try:
            while (frame := await self.frame()).opcode != CLOSE:
                said = orjson.loads(frame.payload) if frame.opcode == TEXT else said
        except EOFError:
            return Closed(said, None)
        return Closed(said, int.from_bytes(frame.payload[:2], "big"))

    async def idle(self) -> None:
        """Wait until it is closed: answer pings, ignore all other frames."""
        try:
            while (frame := await self.frame(patience_s=None)).opcode != CLOSE:
                if frame.opcode == PING:
                    self.send(PONG, frame.payload)
        except EOFError:
            return

    async def leave(self) -> None:
        """Close as a client does, and wait for the server's close."""
        self.send(CLOSE, (1000).to_bytes(2, "big"))
        await self.closed()
        self.drop()

    def drop(self) -> None:
        """Drop the connection, as a lost network does."""
        self.writer.close()


async def connect(
    url: str, token: str = "", headers: dict[str, str] | None = None, token_in_query: str = "", **query: str
) -> Socket:
    """An open connection that was welcomed; raises `Refused`. A header that is empty is not sent."""
    socket = await opened(url, token, headers, token_in_query, **query)
    try:
        socket.welcome = await socket.next_message()
    except BaseException:
        socket.drop()
        raise
    return socket


async def opened(
    url: str, token: str = "", headers: dict[str, str] | None = None, token_in_query: str = "", **query: str
) -> Socket:
    """As `connect`, but nothing was read from it yet."""
    if token_in_query:
        query["token"] = token_in_query
    parts = urlsplit(url)
    assert parts.hostname
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    sent = {
        "Host": parts.netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        **({"Authorization": f"Bearer {token}"} if token else {}),
        **(headers or {}),
    }
    target = PATH + (f"?{urlencode(query)}" if query else "")
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value), "", ""]
    writer.write("\r\n".join(lines).encode("latin-1"))
    socket = Socket(reader, writer)
    try:
        async with asyncio.timeout(PATIENCE_S):
            socket.headers = await _answered(reader)
    except BaseException:
        writer.close()
        raise
    return socket


@asynccontextmanager
async def connected(url: str, token: str, platform: str = "Web") -> AsyncIterator[Socket]:
    """An open connection, which is dropped in the end."""
    socket = await connect(url, token, platform=platform)
    try:
        yield socket
    finally:
        socket.drop()


async def _answered(reader: asyncio.StreamReader) -> dict[str, str]:
    status, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
    if status.split()[1] != "101":
        body = await reader.readexactly(int(headers["content-length"]))
        raise Refused(int(status.split()[1]), headers, orjson.loads(body))
    return headers
