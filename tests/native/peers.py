"""Peers on their own sockets, and a small facts file with distinct replies, so that a swapped reply is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gate.wire.listener import WireOptions, WireServer, serve_wire
from harness.ports import LOOPBACK
from tests.replica.ledger import Ledger, app_facts, said
from tests.wire.line import command

DEADLINE_S = 20.0
AUTH = command("AUTH", "app", "secret")
BLACKLISTED = command("GATE.CHECK", "bob", "alice")
WORDS = [
    (command("GATE.CHECK", "alice", "bob"), b":1\r\n"),
    (BLACKLISTED, b":0\r\n"),
    (command("GATE.VERDICT", "alice", "bob"), b"$7\r\nallowed\r\n"),
    (command("GATE.VERDICT", "bob", "alice"), b"$11\r\nblacklisted\r\n"),
    (command("GATE.VERDICT", "eve", "bob"), b"$13\r\nsender-banned\r\n"),
    (command("GATE.VERDICT", "bob", "carol"), b"$15\r\nnot-whitelisted\r\n"),
    (command("GATE.MCHECK", "bob", "alice", "carol", "dora"), b"*3\r\n:0\r\n:0\r\n:1\r\n"),
]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "replica", 1, app_facts(), app_facts("other", secrets=("theirs",)))
    made.commit(
        said("blocked", b"alice", b"bob"),
        said("ban-imposed", b"eve"),
        said("whitelist-switched", b"carol", value=b"1"),
        said("admitted", b"carol", b"alice"),
    )
    yield made
    made.close()


@contextlib.asynccontextmanager
async def served(ledger: Ledger, **options: Any) -> AsyncIterator[tuple[WireServer, str]]:
    """A worker, and the path of its unix socket; drained at the end."""
    path = str(ledger.directory / "s")
    server = await serve_wire(WireOptions(ledger.directory, **{"port": 0, "unix_path": path, **options}))
    try:
        yield server, path
    finally:
        await server.drain(1)
        assert server.worker.connections == 0


class Peer:
    """Sends bytes and looks at bytes, on a socket of its own."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self.loop = asyncio.get_running_loop()

    @classmethod
    async def to(cls, where: int | str, room: int = 0, *, is_known: bool = True) -> Peer:
        """`room` limits what the kernel holds for it."""
        made = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        if room:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        made.setblocking(False)
        peer = cls(made)
        await peer.loop.sock_connect(made, where if isinstance(where, str) else (LOOPBACK, where))
        if is_known:
            await peer.asked(AUTH, b"+OK\r\n")
        return peer

    async def send(self, sent: bytes) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self.loop.sock_sendall(self.socket, sent)

    async def receive(self, size: int) -> bytes:
        """So many bytes, or less at the end."""
        received = bytearray()
        async with asyncio.timeout(DEADLINE_S):
            while len(received) < size and (some := await self.loop.sock_recv(self.socket, size - len(received))):
                received += some
        return bytes(received)

    async def asked(self, sent: bytes, wanted: bytes) -> None:
        await self.send(sent)
        assert await self.receive(len(wanted)) == wanted

    async def rest(self) -> bytes:
        """All until the server closes."""
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while some := await self.receive(65_536):
                received += some
        return bytes(received)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Close with RST, whatever is under way."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
