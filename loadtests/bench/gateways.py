"""Gateways as the benchmark plays them: Sessions opened and closed in pipelines, over RESP, or as bare scripts on the server.

A closed loop on each connection: a buffer of connects, the Sessions that it gave, a buffer of disconnects of the same. What the
client does under the clock is to parse the ids and to encode the disconnects, a microsecond a Session.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol

import hiredis

from gate.clock import wall_ms
from gate.core import token
from gate.core.model import AppFacts
from gate.core.presence import MAX_GATEWAYS_AN_APP, MAX_SESSIONS_A_USER, SESSION_RANDOM_BYTES, session_id, session_parts
from gate.core.slices import UNSLICED
from gate.store import presence_keys, scripts
from harness.ports import LOOPBACK
from harness.servers import RedisServer
from harness.service import GateService
from loadtests.bench.client import NOT_YET, RECEIVE_BYTES, TIMEOUT_S, Peer, ask, connect, encode
from loadtests.bench.systems.gate import GateSystem

PLATFORM = b"iOS"
LOADED_AT_ONCE = 1_000
MINTED_AT_MS = 1_800_000_000_000
LOG_EPOCH = "652f1a3b00c2e"
"""Of the length that they have in a connect through Gate."""
DONE = {b"ok", 1}
"""What a script replies for each Session that it opened or closed."""


class Client(NamedTuple):
    """A User that connects."""

    user: bytes
    token: str


class Churn(Protocol):
    """One way to open and close Sessions."""

    name: str

    def connect(self, gateway: bytes) -> socket.socket:
        """A connection that holds the Gateway's lease."""
        ...

    def opens(self, gateway: bytes, clients: Sequence[Client]) -> bytes:
        """The commands that open a Session of each."""
        ...

    def closes(self, gateway: bytes, clients: Sequence[Client], opened: Sequence[Any]) -> bytes:
        """The commands that close them again, out of what opening replied."""
        ...


def clients(app_key: str, app_secret: str, many: int, name: str = "online") -> list[Client]:
    """So many Users, each with a Token."""
    app = AppFacts(key=app_key, secrets=(app_secret,))
    now_ms = wall_ms()
    users = [f"{name}{number:06}".encode() for number in range(many)]
    return [Client(user, token.mint(app, user, now_ms, os.urandom(token.NONCE_BYTES))) for user in users]


class Gateways:
    """Through a hot worker: `GATE.CONNECT` with real Tokens, and `GATE.DISCONNECT`."""

    name = "gate"

    def __init__(self, node: GateService) -> None:
        self._system = GateSystem(node, node.credentials)
        self._epochs: dict[bytes, int] = {}

    def connect(self, gateway: bytes) -> socket.socket:
        connection = self._system.connect()
        self._epochs[gateway] = wall_ms()
        self.renew(connection, gateway)
        return connection

    def renew(self, connection: socket.socket, gateway: bytes) -> None:
        """One heartbeat."""
        ask(connection, self.renewal(gateway), 1)

    def renewal(self, gateway: bytes) -> bytes:
        """The command of one."""
        return encode("GATE.LEASE", gateway, self._epochs[gateway])

    def opens(self, gateway: bytes, clients: Sequence[Client]) -> bytes:
        return b"".join([encode("GATE.CONNECT", one.token, PLATFORM, gateway) for one in clients])

    def closes(self, gateway: bytes, clients: Sequence[Client], opened: Sequence[Any]) -> bytes:
        return b"".join([encode("GATE.DISCONNECT", session) for session in opened])

    def load(self, connection: socket.socket, gateway: bytes, clients: Sequence[Client]) -> None:
        """Open a Session of each, which stay; up to `LOADED_AT_ONCE` of them."""
        ask(connection, self.opens(gateway, clients), len(clients))


class BareScripts:
    """The same scripts by `EVALSHA`, straight to the same server. `together` is how many Sessions a call is for.

    No Token is verified, and ids are made beforehand. Departures are announced by the node, as those of Gate are.
    """

    def __init__(self, server: RedisServer, app_key: str, clients: Sequence[Client], together: int) -> None:
        self.name = f"bare EVALSHA of {together}"
        self._together = together
        self._server = server
        self._app_key = app_key
        self._epochs: dict[bytes, int] = {}
        self._base = presence_keys.base(app_key)
        self._open = str(server.client.script_load(scripts.PRESENCE_OPEN.source))
        self._close = str(server.client.script_load(scripts.PRESENCE_CLOSE.source))
        self._lease = str(server.client.script_load(scripts.PRESENCE_LEASE.source))
        self._ids = {
            one.user: session_parts(session_id(os.urandom(SESSION_RANDOM_BYTES), one.user))[0] for one in clients
        }

    def connect(self, gateway: bytes) -> socket.socket:
        connection = connect(LOOPBACK, self._server.port)
        epoch = self._epochs[gateway] = wall_ms()
        ask(
            connection,
            encode("EVALSHA", self._lease, 1, self._base, UNSLICED.word, gateway, epoch, MAX_GATEWAYS_AN_APP),
            1,
        )
        self._server.client.sadd(presence_keys.APPS, self._app_key)
        return connection

    def opens(self, gateway: bytes, clients: Sequence[Client]) -> bytes:
        head = (*self._head(self._open, gateway), "all", MAX_SESSIONS_A_USER)
        tail = (PLATFORM, "", MINTED_AT_MS, LOG_EPOCH, 1, "")
        return self._calls(head, [(one.user, self._ids[one.user], *tail) for one in clients])

    def closes(self, gateway: bytes, clients: Sequence[Client], opened: Sequence[Any]) -> bytes:
        head = (*self._head(self._close, gateway), "closed")
        return self._calls(head, [(one.user, self._ids[one.user]) for one in clients])

    def _head(self, script: str, gateway: bytes) -> tuple[Any, ...]:
        return "EVALSHA", script, 1, self._base, UNSLICED.word, "", gateway, self._epochs[gateway]

    def _calls(self, head: tuple[Any, ...], rows: Sequence[tuple[Any, ...]]) -> bytes:
        some = [rows[at : at + self._together] for at in range(0, len(rows), self._together)]
        return b"".join([encode(*head, *chain.from_iterable(one)) for one in some])

    def forget(self) -> None:
        """Drop what was kept."""
        self._server.client.srem(presence_keys.APPS, self._app_key)
        if kept := list(self._server.client.scan_iter(match=self._base + b"*", count=1_000)):
            self._server.client.unlink(*kept)


class _Line:
    """One connection's place in the loop: what was sent last, and of whom."""

    def __init__(self, connection: socket.socket, gateway: bytes, clients: Sequence[Client], pipeline: int) -> None:
        self.connection = connection
        self.gateway = gateway
        self._clients = clients
        self._pipeline = pipeline
        self._at = 0
        self.batch: Sequence[Client] = ()
        self.is_opening = False
        self.replies: list[Any] = []
        self.reader = hiredis.Reader(notEnoughData=NOT_YET)

    def step(self, churn: Churn) -> int:
        """Send what follows upon the last replies; how many commands that answers."""
        done = len(self.replies)
        if self.is_opening:
            request = churn.closes(self.gateway, self.batch, self.replies)
        else:
            self.batch = self._clients[self._at : self._at + self._pipeline]
            self._at = 0 if self._at + self._pipeline >= len(self._clients) else self._at + self._pipeline
            request = churn.opens(self.gateway, self.batch)
        self.is_opening, self.replies = not self.is_opening, []
        self.connection.sendall(request)
        return done

    def receive(self) -> bool:
        """Whether all replies to what was sent are in."""
        chunk = self.connection.recv(RECEIVE_BYTES)
        if not chunk:
            raise Peer("the server closed the connection")
        self.reader.feed(chunk)
        while (reply := self.reader.gets()) is not NOT_YET:
            if isinstance(reply, hiredis.ReplyError):
                raise Peer(str(reply))
            if isinstance(reply, list):  # a script's, for each of its Sessions
                if not DONE.issuperset(reply):
                    raise Peer(f"the script replied {reply}")
                self.replies += reply
            else:
                self.replies.append(reply)
        return len(self.replies) == len(self.batch)


def churn_rate(churn: Churn, everyone: Sequence[Client], lines: int, pipeline: int, seconds: float) -> float:
    """Connects and disconnects a second, all of them answered; no client is connected afterwards."""
    share = len(everyone) // lines
    ours = [everyone[nth * share : (nth + 1) * share] for nth in range(lines)]
    open_ones = [
        _Line(churn.connect(name), name, some, pipeline)
        for name, some in zip(map(_gateway, range(lines)), ours, strict=True)
    ]
    by_fd = {line.connection.fileno(): line for line in open_ones}
    answered = 0
    try:
        with select.epoll() as poll:
            started = now = time.perf_counter()
            for fd, line in by_fd.items():
                poll.register(fd, select.EPOLLIN)
                line.step(churn)
            while by_fd:
                for fd, _ in poll.poll(TIMEOUT_S):
                    line = by_fd[fd]
                    if not line.receive():
                        continue
                    now = time.perf_counter()
                    if now - started >= seconds and not line.is_opening:
                        answered += len(line.replies)
                        poll.unregister(fd)
                        del by_fd[fd]
                    else:
                        answered += line.step(churn)
        return answered / (now - started)
    finally:
        for line in open_ones:
            line.connection.close()


def _gateway(nth: int) -> bytes:
    return b"edge-%d" % nth
