"""Thousands of WebSocket clients in one process, on raw sockets and one epoll, so light that the server is measured.

    with Crowd(node, clients) as crowd:
        crowd.come()     all clients connect at once; returns when all are welcome
        crowd.drop()     all sockets are closed at once
        crowd.storm()    both, one right after the other
    crowd.look()     how many are connected, their pings, and the connections that the server closed

Clients follow docs/websocket.md: they answer pings, and reconnect after a connection broke, later each time. Times are those
of `time.monotonic`, which all processes of a machine share.
"""

from __future__ import annotations

import errno
import heapq
import random
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from urllib.parse import urlsplit

import orjson

from harness.service import GateService
from loadtests.bench.apart import CLIENTS_NICE, END, Apart
from loadtests.bench.client import RECEIVE_BYTES, Peer
from loadtests.bench.gateways import Client
from loadtests.bench.websocket_frames import CLOSE, PING, PONG, TEXT, handshake, sent, taken

PATH = "/client/v1/connect?platform=iOS"
A_SOURCE_ADDRESS = 5_000
"""Connections from one loopback address: each has 28,000 ports, of which those used just now are not free at once."""
BEGUN_AT_ONCE = 256
"""Connects between two polls of the sockets."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
COME_WITHIN_S = 120.0
LOOK_EVERY_S = 0.1
"""How often to check whether all are connected while no data arrives."""
_PING, _PONG = b"\x89\x00", sent(PONG)


@dataclass
class Closed:
    """A connection that the server ended, with a reason."""

    user: bytes
    code: int
    reason: str
    at_s: float
    """When the close frame came."""


@dataclass
class Look:
    """The state of a crowd, and events since the last `come` or `drop`."""

    here: int
    """How many were welcomed and are connected."""
    pings: list[int]
    """Of each connection."""
    closed: list[Closed]
    began_s: float
    welcomed_s: list[float]
    """When each welcome came."""
    refused: Counter[str] = field(default_factory=Counter)
    """Attempts that failed, by their answer."""


class _Member:
    """One client."""

    __slots__ = ("buffer", "is_here", "nth", "pings", "reason", "request", "socket", "user", "wait_s")

    def __init__(self, nth: int, user: bytes, request: bytes) -> None:
        self.nth = nth
        self.user = user
        self.request = request
        self.socket: socket.socket | None = None
        self.buffer: bytearray | None = None
        """The received part of an unfinished frame; it is hardly ever used."""
        self.is_here = False
        self.pings = 0
        self.reason = ""
        self.wait_s = FIRST_WAIT_S


class _Loop:
    """The event loop of the clients' process."""

    def __init__(self, host: str, port: int, clients: Sequence[Client], control: Connection) -> None:
        self._where = host, port
        self._control = control
        self._members = [
            _Member(nth, one.user, handshake(f"{host}:{port}", PATH, one.token)) for nth, one in enumerate(clients)
        ]
        self._by_fd: dict[int, _Member] = {}
        self._poll = select.epoll()
        self._poll.register(control.fileno(), select.EPOLLIN)
        self._due: list[tuple[float, int]] = []
        """When each client connects, and its number."""
        self._come_by_s = 0.0
        self._times_come = 0
        self._many_here = 0
        self._buffer = bytearray(RECEIVE_BYTES)
        self._forget()

    def run(self) -> None:
        """Until the order `END`."""
        while True:
            for fd, events in self._poll.poll(self._wait_s()):
                if fd == self._control.fileno():
                    if not self._obey(self._control.recv()):
                        return
                elif member := self._by_fd.get(fd):
                    self._attend(member, events)
            self._begin_due()
            self._answer_when_come()

    def _wait_s(self) -> float:
        if self._due:
            return max(0.0, min(LOOK_EVERY_S, self._due[0][0] - time.monotonic()))
        return LOOK_EVERY_S if self._come_by_s else -1

    def _obey(self, order: str) -> bool:
        now_s = time.monotonic()
        if order == "come":
            self._forget()
            self._times_come += 1
            self._due = [(now_s, one.nth) for one in self._members if one.socket is None]
            self._come_by_s = now_s + COME_WITHIN_S
        elif order == "drop":
            self._drop()
            self._control.send(self._look())
        elif order == "storm":
            self._drop()
            self._times_come += 1
            self._due = [(now_s, one.nth) for one in self._members]
            self._come_by_s = now_s + COME_WITHIN_S
        elif order == "return":
            self._forget()
            self._times_come += 1
            self._wanted = len(self._members)
            self._come_by_s = now_s + COME_WITHIN_S
        elif order == "look":
            self._control.send(self._look())
        elif order == "watch":  # record disconnects from now on; broken connections are made again
            self._forget()
            self._control.send(None)
        return order != END

    def _drop(self) -> None:
        self._forget()
        self._due = []
        for member in self._members:
            self._leave(member)

    def _answer_when_come(self) -> None:
        if self._come_by_s and (self._are_all_here() or time.monotonic() > self._come_by_s):
            self._come_by_s = 0.0
            self._control.send(self._look())

    def _are_all_here(self) -> bool:
        are_some_away = self._due or self._many_here < len(self._members)
        return not are_some_away and len(self._welcomed_s) >= self._wanted

    def _forget(self) -> None:
        self._began_s = time.monotonic()
        self._welcomed_s: list[float] = []
        self._wanted = 0
        self._closed: list[Closed] = []
        self._refused: Counter[str] = Counter()
        for member in self._members:
            member.pings = 0

    def _look(self) -> Look:
        here = [one for one in self._members if one.is_here]
        pings = [one.pings for one in here]
        return Look(len(here), pings, self._closed, self._began_s, self._welcomed_s, self._refused)

    # Connecting

    def _begin_due(self) -> None:
        now_s = time.monotonic()
        for _ in range(min(BEGUN_AT_ONCE, len(self._due))):
            if self._due[0][0] > now_s:
                return
            self._connect(self._members[heapq.heappop(self._due)[1]])

    def _connect(self, member: _Member) -> None:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # Each time from other addresses, because the old ports are not free yet.
        turn = self._times_come * 16 + member.nth // A_SOURCE_ADDRESS
        connection.bind((f"127.0.{1 + turn // 250 % 250}.{1 + turn % 250}", 0))
        member.socket, member.buffer, member.reason = connection, None, ""
        self._by_fd[connection.fileno()] = member
        problem = connection.connect_ex(self._where)
        if problem not in (0, errno.EINPROGRESS):
            self._broke(member, errno.errorcode[problem])
            return
        self._poll.register(connection.fileno(), select.EPOLLOUT)

    def _attend(self, member: _Member, events: int) -> None:
        connection = member.socket
        assert connection is not None
        try:
            if events & select.EPOLLOUT:
                connection.send(member.request)
                self._poll.modify(connection.fileno(), select.EPOLLIN)
                return
            count = connection.recv_into(self._buffer)
        except OSError as fault:
            self._broke(member, errno.errorcode.get(fault.errno or 0, "?"))
            return
        if not count:
            self._broke(member, "closed")
        elif count == 2 and member.buffer is None and self._buffer[:2] == _PING:
            member.pings += 1
            connection.send(_PONG)
        else:
            self._take(member, connection, self._buffer[:count])

    def _take(self, member: _Member, connection: socket.socket, came: bytearray) -> None:
        buffer = came if member.buffer is None else member.buffer + came
        if not member.is_here:
            end = buffer.find(b"\r\n\r\n")
            if end < 0 and buffer.startswith(b"HTTP"):
                member.buffer = buffer
                return
            if end >= 0:
                status = bytes(buffer[9:12]).decode()
                del buffer[: end + 4]
                if status != "101":
                    self._broke(member, status)
                    return
        for frame in taken(buffer):
            if frame.opcode == PING:
                member.pings += 1
                connection.send(sent(PONG, frame.payload))
            elif frame.opcode == CLOSE:
                self._closed.append(Closed(member.user, frame.close_code, member.reason, time.monotonic()))
                connection.send(sent(CLOSE, frame.payload[:2]))
                self._leave(member)
                return
            elif frame.opcode == TEXT:
                self._hear(member, frame.payload)
        member.buffer = buffer or None

    def _hear(self, member: _Member, said: bytes) -> None:
        message = orjson.loads(said)
        if message["type"] == "welcome":
            member.is_here, member.wait_s = True, FIRST_WAIT_S
            self._many_here += 1
            self._welcomed_s.append(time.monotonic())
        elif message["type"] == "closing":
            member.reason = message["reason"]

    # Ending

    def _broke(self, member: _Member, why: str) -> None:
        """Reconnect later, by the rules of docs/websocket.md."""
        self._refused[why] += 1
        self._leave(member)
        wait_s = random.uniform(FIRST_WAIT_S, 2 * member.wait_s)
        member.wait_s = min(LONGEST_WAIT_S, wait_s)
        heapq.heappush(self._due, (time.monotonic() + member.wait_s, member.nth))

    def _leave(self, member: _Member) -> None:
        if member.socket is not None:
            del self._by_fd[member.socket.fileno()]
            member.socket.close()
        self._many_here -= member.is_here
        member.socket, member.buffer, member.is_here = None, None, False


def _crowd(line: Connection, host: str, port: int, clients: Sequence[Client]) -> None:
    _Loop(host, port, clients, line).run()


class Crowd:
    """The handle of a row. No client is connected at first; leaving the context ends the process and its connections."""

    def __init__(self, node: GateService, clients: Sequence[Client], nice: int = CLIENTS_NICE) -> None:
        parts = urlsplit(node.http)
        self.many = len(clients)
        self._apart = Apart(_crowd, parts.hostname or "", parts.port or 80, list(clients), nice=nice)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._apart.__exit__(kind, error, trace)

    def come(self) -> Look:
        """Clients that are not connected connect at once; raises `Peer` if not all are connected within two minutes."""
        return self._whole(self._apart.ask("come"))

    def drop(self) -> Look:
        """Every socket is closed without a close frame, and no client reconnects by itself."""
        look: Look = self._apart.ask("drop")
        return look

    def storm(self) -> Look:
        """Every socket is closed, and all clients connect at once; as `come`."""
        return self._whole(self._apart.ask("storm"))

    def after(self, work: Callable[[], None]) -> Look:
        """Run `work`, which breaks every connection, and wait until all clients are back; as `come`."""
        self._apart.tell("return")
        work()
        return self._whole(self._apart.hear())

    def watch(self) -> None:
        """Start to count again."""
        self._apart.ask("watch")

    def look(self) -> Look:
        """The present state."""
        look: Look = self._apart.ask("look")
        return look

    def _whole(self, look: Look) -> Look:
        if look.here < self.many:
            raise Peer(f"{look.here:,} of {self.many:,} WebSockets are here; refused: {dict(look.refused)}")
        return look
