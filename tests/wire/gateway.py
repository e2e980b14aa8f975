"""A hot worker with Presence behind it, and peers on real sockets that say what Gateways say."""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis

from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.core.token import mint
from gate.presence.session_service import SessionService
from gate.replica.authorization import Admission
from gate.store.address import parse_address
from gate.store.cluster import client_of
from gate.store.presence import PresenceStore
from gate.wire import replies
from gate.wire.client import Worker
from gate.wire.connection import Connection
from gate.wire.listener import WireServer
from harness.ports import LOOPBACK

TIMEOUT_S = 20.0
TTL_MS = 60_000
Word = bytes | str | int


def session_service_at(url: str, deadline_ms: int, worker: Worker) -> SessionService:
    """Close its `store.client` behind it."""
    store = PresenceStore(client_of(parse_address(url), deadline_ms, deadline_ms))
    return SessionService(store, TTL_MS, Admission(lambda: worker.reading))


def token_of(app: AppFacts, user: bytes) -> str:
    return mint(app, user, wall_ms(), b"8 bytes!")


def command(*words: Word) -> bytes:
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(map(replies.bulk, raw))


class GatewayPeer:
    """One connection, bound to the App."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._replies = hiredis.Reader()

    @classmethod
    async def to(cls, server: WireServer, app: str = "app", secret: str = "secret") -> GatewayPeer:
        peer = cls(*await asyncio.open_connection(LOOPBACK, server.port, limit=1 << 24))
        assert await peer.ask("AUTH", app, secret) == b"OK"
        return peer

    def send(self, *words: Word) -> None:
        self.writer.write(command(*words))

    async def next(self) -> Any:
        """The next reply; an error is a `hiredis.ReplyError`. EOFError once the server has closed."""
        async with asyncio.timeout(TIMEOUT_S):
            while (reply := self._replies.gets()) is False:
                if not (chunk := await self._reader.read(65_536)):
                    raise EOFError
                self._replies.feed(chunk)
            return reply

    async def ask(self, *words: Word) -> Any:
        self.send(*words)
        return await self.next()

    async def refused(self, *words: Word) -> str:
        reply = await self.ask(*words)
        assert isinstance(reply, hiredis.ReplyError), reply
        return str(reply)

    def in_server(self, server: WireServer) -> Connection:
        """This connection as the server has it."""
        mine = "{}:{}".format(*self.writer.get_extra_info("sockname"))
        (found,) = [one for one in server.connections if one.client.peer == mine]
        return found

    def close(self) -> None:
        self.writer.close()
