"""A network in virtual time, between the parts of Gate and real servers that run one command at a time.

Each connection keeps the order of its bytes in both directions; bytes of different connections may overtake each other. A
command reaches the server after a delay, is run there while the clock stands still, and its reply comes after another delay. A
connection that is cut may lose what is on its way. XREAD does not block the server: it is asked again after each write, until
its time is over. PUBLISH and SUBSCRIBE are the network's own.

An address (`unix:///NAME`) leads each actor to a server, and may be pointed to the other one.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hiredis

FAST_MS = (0.05, 2.0)
SLOW_MS = (20.0, 1_400.0)
SLOW_SHARE = 0.01
GAP_SHARE = 0.1
"""Of commands in one pipeline: so many wait a moment at the server, and those of others run in between."""
LOG = b":log"

Data = list[tuple[bytes, bytes]]


class Server:
    """A real server, asked over one blocking connection. What a fault does to it is one call."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self.is_up = True
        self.connections: list[Connection] = []

    def run(self, command: list[bytes] | tuple[Any, ...]) -> bytes:
        """Run one command; its reply, as it travels."""
        self._socket.sendall(hiredis.pack_command(tuple(command)))
        reader, raw = hiredis.Reader(), b""
        while True:
            part = self._socket.recv(1 << 20)
            reader.feed(part)
            raw += part
            if reader.gets() is not False:
                return raw

    def ask(self, *command: bytes | str | int) -> Any:
        """Run one command of the simulation's own; its reply, read."""
        reader = hiredis.Reader()
        reader.feed(self.run(command))
        reply = reader.gets()
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def data(self) -> Data:
        """All that it has."""
        return [(key, self.ask("DUMP", key)) for key in self.ask("KEYS", "*")]

    def load(self, data: Data) -> None:
        """Have this, and nothing else."""
        self.ask("FLUSHALL")
        for key, dumped in data:
            self.ask("RESTORE", key, 0, dumped)

    def demote(self) -> None:
        """Demote it to a replica. It closes no connection, but releases those that wait for Changes."""
        self.ask("REPLICAOF", "127.0.0.1", 1)
        for connection in list(self.connections):
            connection.unblock()

    def begin_history(self) -> None:
        """It takes writes, under another server id than before."""
        self.ask("REPLICAOF", "127.0.0.1", 1)
        self.ask("REPLICAOF", "NO", "ONE")

    def end_connections(self) -> None:
        for connection in list(self.connections):
            connection.cut("the server ended")

    def aclose(self) -> None:
        self._socket.close()


class Connection(asyncio.Transport):
    """One connection of an actor; for its protocol, a transport."""

    def __init__(self, network: Network, actor: str, server: Server, protocol: Any) -> None:
        super().__init__()
        self._network = network
        self._loop = asyncio.get_running_loop()
        self.actor = actor
        self.server = server
        self._protocol = protocol
        self._reader = hiredis.Reader()
        self._queue: deque[list[bytes]] = deque()
        self._is_busy = False
        self._blocked: tuple[list[bytes], asyncio.TimerHandle] | None = None
        self._channels: set[bytes] = set()
        self._is_open = True
        self._there_at_s = self._back_at_s = 0.0
        server.connections.append(self)

    def write(self, data: Any) -> None:
        if self._is_open:
            self._there_at_s = self._later(self._there_at_s, self._arrive, bytes(data))

    def abort(self) -> None:
        """The actor closes it: what it sent may still arrive."""
        if self._is_open:
            self._is_open = False
            self._later(self._there_at_s, self._leave)
            self._loop.call_soon(self._protocol.connection_lost, None)

    def close(self) -> None:
        self.abort()

    def is_closing(self) -> bool:
        return not self._is_open

    def cut(self, problem: str) -> None:
        """Both ends lose it; what is on its way is lost as well."""
        self._leave()
        if self._is_open:
            self._is_open = False
            self._loop.call_soon(self._protocol.connection_lost, ConnectionResetError(problem))

    def unblock(self) -> None:
        """A server that is demoted ends what waits for Changes."""
        if self._blocked is not None:
            self._answer(
                b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n"
            )

    def look_again(self) -> None:
        """Something was written: an XREAD that waits may have its answer."""
        if self._blocked is not None:
            reply = self.server.run(self._blocked[0])
            if not reply.startswith(b"*-1"):
                self._answer(reply)

    def publish(self, channel: bytes, message: bytes) -> bool:
        if channel not in self._channels:
            return False
        self._send(hiredis.pack_command((b"message", channel, message)))  # type: ignore[arg-type]  # a tuple of any length
        return True

    def _later(self, after_s: float, act: Callable[..., object], *what: object) -> float:
        # Timers of one moment run in any order, and bytes must not.
        at_s = max(after_s + 1e-6, self._loop.time() + self._network.delay_s(self.actor))
        self._loop.call_at(at_s, act, *what)
        return at_s

    def _arrive(self, data: bytes) -> None:
        if self not in self.server.connections:
            return
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            self._queue.append(command)
        self._serve()

    def _serve(self) -> None:
        while self._queue and self._blocked is None and not self._is_busy and self in self.server.connections:
            self._run(self._queue.popleft())
            if self._queue and self._network.random.random() < GAP_SHARE:
                self._is_busy = True
                self._loop.call_later(self._network.random.uniform(*FAST_MS) / 1_000, self._go_on)

    def _go_on(self) -> None:
        self._is_busy = False
        self._serve()

    def _run(self, command: list[bytes]) -> None:
        name = command[0]
        if name == b"SUBSCRIBE":
            self._channels.add(command[1])
            self._send(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(command[1]), command[1]))
        elif name == b"PUBLISH":
            heard = [each.publish(command[1], command[2]) for each in list(self.server.connections)]
            self._send(b":%d\r\n" % sum(heard))
        elif name == b"XREAD" and b"BLOCK" in command:
            at = command.index(b"BLOCK")
            wait_ms, asked = int(command[at + 1]), command[:at] + command[at + 2 :]
            reply = self.server.run(asked)
            if reply.startswith(b"*-1"):
                self._blocked = asked, self._loop.call_later(wait_ms / 1_000, self._answer, b"*-1\r\n")
            else:
                self._send(reply)
        else:
            self._send(self.server.run(command))
            if any(part.endswith(LOG) for part in command[3:]):
                for each in list(self.server.connections):
                    each.look_again()

    def _answer(self, reply: bytes) -> None:
        assert self._blocked is not None
        self._blocked[1].cancel()
        self._blocked = None
        self._send(reply)
        self._serve()

    def _send(self, reply: bytes) -> None:
        self._back_at_s = self._later(self._back_at_s, self._receive, reply)

    def _receive(self, reply: bytes) -> None:
        if self._is_open:
            self._protocol.data_received(reply)

    def _leave(self) -> None:
        if self in self.server.connections:
            self.server.connections.remove(self)
        if self._blocked is not None:
            self._blocked[1].cancel()
            self._blocked = None


class Network:
    """All connections. `leads_to` says which server the address of each actor leads to."""

    def __init__(self, random: random.Random, servers: Sequence[Server]) -> None:
        self.random = random
        self._servers = servers
        self.leads_to: dict[str, Server] = {}
        self.is_rough = False
        """Whether some messages are slow though no fault says so."""
        self._slow_until_s: dict[str, tuple[float, float]] = {}

    async def connect(self, factory: Callable[[], Any], path: str) -> tuple[Connection, Any]:
        """What `loop.create_unix_connection` does."""
        actor = path.rpartition("/")[2]
        await asyncio.sleep(self.delay_s(actor))
        server = self.leads_to[actor]
        await asyncio.sleep(self.delay_s(actor))
        if not server.is_up:
            raise ConnectionRefusedError(111, "Connection refused")
        protocol = factory()
        connection = Connection(self, actor, server, protocol)
        protocol.connection_made(connection)
        return connection, protocol

    def slow(self, actor: str, extra_ms: float, for_ms: float) -> None:
        """Every message of an actor takes up to so much longer for a while."""
        self._slow_until_s[actor] = asyncio.get_running_loop().time() + for_ms / 1_000, extra_ms

    def cut(self, actor: str) -> None:
        """Every connection of an actor is lost."""
        for server in self._servers:
            for connection in list(server.connections):
                if connection.actor == actor:
                    connection.cut("the cable was cut")

    def delay_s(self, actor: str) -> float:
        until_s, extra_ms = self._slow_until_s.get(actor, (0.0, 0.0))
        delay_ms = self.random.uniform(*(SLOW_MS if self.is_rough and self.random.random() < SLOW_SHARE else FAST_MS))
        if asyncio.get_running_loop().time() < until_s:
            delay_ms += self.random.uniform(0, extra_ms)
        return delay_ms / 1_000
