"""Other work of a node while checks are timed: an app server's writes, Sessions that come and go, a connection without pause.

Each is a process of its own that keeps to a rate, and says at the end how much it got done: on a machine that is too busy for
both, that is less than was asked for, and belongs next to the figure.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from multiprocessing.connection import Connection
from typing import NamedTuple
from urllib.parse import urlsplit

from harness.ports import LOOPBACK
from harness.service import GateService
from harness.signing import signature_headers
from loadtests.bench.apart import CLIENTS_NICE, END, Apart
from loadtests.bench.client import RECEIVE_BYTES, TIMEOUT_S, Peer, ask, connect, encode
from loadtests.bench.facts import user_id
from loadtests.bench.gateways import PLATFORM, clients

WRITES_A_SECOND = 1_000
PRESENCE_CHANGES_A_SECOND = 5_000
WRITERS = 16
"""Connections, each with one call at a time."""
STEP_S = 0.002
"""Between two looks at what is due."""
MOST_DUE_S = 0.05
"""Work that is overdue for longer is left out, so that a busy machine gets less work and not a burst."""
COMERS = 2_000
RENEW_EVERY_S = 3.0
STRANGER = "tail-member"
"""The User that the writes list. No check names it, so that no answer changes."""


class Done(NamedTuple):
    """The number of operations, and their seconds."""

    changes: int
    seconds: float

    @property
    def per_s(self) -> float:
        return self.changes / self.seconds if self.seconds else 0.0


class Meanwhile:
    """Use as a context, which ends it. `done` is what was done since the last time it was asked for."""

    def __init__(self, work: Callable[..., Iterator[int]], *given: object) -> None:
        self._apart = Apart(_kept_up, work, *given, nice=CLIENTS_NICE)

    def __enter__(self) -> Meanwhile:
        self.done()  # it is at work when it answers
        return self

    def __exit__(self, *ended: object) -> None:
        self._apart.__exit__(None, None, None)

    def done(self) -> Done:
        """`EOFError` if it failed; why is on stderr."""
        return Done(*self._apart.ask("done"))


def writes(node: GateService, users: int) -> Meanwhile:
    """`/user/blacklist/add.json` and `remove.json` in turn, over the owners of the facts."""
    credentials = node.credentials
    return Meanwhile(_writes, urlsplit(node.http).port, credentials.app_key, credentials.app_secret, users)


def presence_changes(node: GateService) -> Meanwhile:
    """`GATE.CONNECT` and `GATE.DISCONNECT`, on the connection of one Gateway."""
    credentials = node.credentials
    return Meanwhile(_presence, node.resp_port, credentials.app_key, credentials.app_secret)


def without_a_pause(port: int, greeting: bytes, request: bytes) -> Meanwhile:
    """One connection that is written to whenever there is room, without a wait for answers."""
    return Meanwhile(_flood, port, greeting, request)


def _kept_up(line: Connection, work: Callable[..., Iterator[int]], *given: object) -> None:
    """Run the work, which yields at every step how much it did, until the order `END`."""
    done, since_s = 0, time.monotonic()
    for step in work(*given):
        done += step
        if line.poll():
            if line.recv() == END:
                return
            now_s = time.monotonic()
            line.send((done, now_s - since_s))
            done, since_s = 0, now_s


def _due(rate: float) -> Iterator[int]:
    """How many are due, at every step."""
    at_s = time.monotonic()
    while True:
        now_s = time.monotonic()
        at_s = max(at_s, now_s - MOST_DUE_S)
        many = int((now_s - at_s) * rate)
        at_s += many / rate
        yield many


def _writes(port: int, app_key: str, app_secret: str, users: int) -> Iterator[int]:
    """A connection that is not answered yet takes no other call."""
    numbers, due, overdue = count(), _due(WRITES_A_SECOND), 0
    with ExitStack() as stack:
        free = deque(stack.enter_context(connect(LOOPBACK, port)) for _ in range(WRITERS))
        asked: dict[socket.socket, bytes] = {}
        while True:
            overdue = min(overdue + next(due), WRITERS)
            while overdue and free:
                connection = free.popleft()
                connection.sendall(_write(next(numbers), users, app_key, app_secret))
                asked[connection] = b""
                overdue -= 1
            yield sum(_answered(one, asked, free) for one in select.select(list(asked), [], [], STEP_S)[0])


def _write(number: int, users: int, app_key: str, app_secret: str) -> bytes:
    path = "remove" if number % 2 else "add"
    body = f"userId={user_id(number // 2 % users).decode()}&blackUserId={STRANGER}"
    headers = "".join(f"{name}: {value}\r\n" for name, value in signature_headers(app_key, app_secret).items())
    head = f"POST /user/blacklist/{path}.json HTTP/1.1\r\nHost: gate\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def _answered(connection: socket.socket, asked: dict[socket.socket, bytes], free: deque[socket.socket]) -> int:
    answer = asked[connection] + connection.recv(RECEIVE_BYTES)
    if answer[9:12] not in (b"200", b"") or not answer:
        raise Peer(f"a write failed: {answer[:500].decode(errors='replace')}")
    if not answer.endswith(b"}"):  # all of these answers are one JSON object
        asked[connection] = answer
        return 0
    del asked[connection]
    free.append(connection)
    return 1


def _presence(port: int, app_key: str, app_secret: str) -> Iterator[int]:
    """The Sessions that one step opens are closed in the next."""
    everyone, at = clients(app_key, app_secret, COMERS, "tail"), 0
    lease = encode("GATE.LEASE", "tail", time.time_ns() // 1_000_000)
    with connect(LOOPBACK, port) as connection:
        ask(connection, encode("AUTH", app_key, app_secret) + lease, 2)
        renewed_s, opened, overdue = time.monotonic(), list[bytes](), 0
        for many in _due(PRESENCE_CHANGES_A_SECOND):
            if time.monotonic() - renewed_s > RENEW_EVERY_S:
                ask(connection, lease, 1)
                renewed_s = time.monotonic()
            overdue += many
            if overdue < (len(opened) or 1):
                time.sleep(STEP_S)
                yield 0
            elif opened:
                ask(connection, b"".join(encode("GATE.DISCONNECT", session) for session in opened), len(opened))
                overdue, done, opened = overdue - len(opened), len(opened), []
                yield done
            else:
                coming = [everyone[(at + nth) % COMERS] for nth in range(min(overdue, COMERS))]
                at += len(coming)
                request = b"".join(encode("GATE.CONNECT", one.token, PLATFORM, "tail") for one in coming)
                opened, _ = ask(connection, request, len(coming))
                overdue -= len(coming)
                yield len(coming)


def _flood(port: int, greeting: bytes, request: bytes) -> Iterator[int]:
    chunk = memoryview(request * max(1, RECEIVE_BYTES // len(request)))
    with connect(LOOPBACK, port) as connection:
        if greeting:
            ask(connection, greeting, 1)
        connection.setblocking(False)
        at = sent = 0
        while True:
            readable, writable, _ = select.select([connection], [connection], [], TIMEOUT_S)
            if readable and not connection.recv(RECEIVE_BYTES):
                raise Peer("the server closed the connection that never pauses")
            if writable:
                taken = connection.send(chunk[at:])
                at, before, sent = (at + taken) % len(chunk), sent, sent + taken
                yield sent // len(request) - before // len(request)
            else:
                yield 0
