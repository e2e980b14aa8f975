"""Apps that hold their own Sessions: they come, ask, idle and go, each over one WebSocket; and a crowd of them drops at once.

They check the service's promises: a client that is welcome is online, and gets its answers in order and with the right content;
after a storm all clients are back.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import gevent
import orjson
from locust import User, constant_throughput, task

from gate.clock import wall_ms
from gate.core import token
from gate.core.model import AppFacts
from loadtests.bench.websocket_frames import CLOSE, PING, PONG, TEXT, Frame, handshake, sent, taken
from loadtests.users.target import Target, target

ROUNDS_A_SECOND = 2
TIMEOUT_S = 10.0
RECEIVE_BYTES = 1 << 16
IDLE_S = 1.0
PLATFORMS = ("iOS", "Android", "Web")
CROWD = 50
BACK_WITHIN_S = 10.0
STORMS_A_SECOND = 0.5
_numbers = itertools.count()


class Wrong(Exception):
    """The service said something else than it must, or nothing in time."""


class Device:
    """One User's connection. Calls raise `Wrong` and `OSError`."""

    def __init__(self, where: Target, host: str, user: str) -> None:
        parts = urlsplit(host)
        self.user = user
        self.platform = random.choice(PLATFORMS)
        self._at = parts.hostname or "", parts.port or 80
        app = AppFacts(key=where.app_key, secrets=(where.app_secret,))
        self._token = token.mint(app, user.encode(), wall_ms(), os.urandom(token.NONCE_BYTES))
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._asked = 0

    @property
    def is_here(self) -> bool:
        return self._socket is not None

    def come(self) -> None:
        """Connect, and be welcome."""
        connection = self._socket = socket.create_connection(self._at, TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(handshake(self._at[0], f"/client/v1/connect?platform={self.platform}", self._token))
        self._buffer.clear()
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._receive(connection)
        head = self._buffer[:end].decode()
        del self._buffer[: end + 4]
        if not head.startswith("HTTP/1.1 101 "):
            raise Wrong(f"the handshake was answered {head.splitlines()[0]}")
        welcome = self._hear(connection)
        if (welcome.get("type"), welcome.get("user"), welcome.get("platform")) != ("welcome", self.user, self.platform):
            raise Wrong(f"the welcome is {welcome}")

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send a message; its answer, which must have the same id and type."""
        connection = self._connected()
        self._asked += 1
        connection.sendall(sent(TEXT, orjson.dumps(message | {"id": self._asked})))
        answer = self._hear(connection)
        if (answer.get("id"), answer.get("type")) != (
            self._asked,
            {"ping": "pong"}.get(message["type"], message["type"]),
        ):
            raise Wrong(f"{message} was answered {answer}")
        return answer

    def idle(self, seconds: float) -> None:
        """Say nothing; nothing but pings may come."""
        until_s, connection = time.monotonic() + seconds, self._connected()
        while (left_s := until_s - time.monotonic()) > 0:
            connection.settimeout(left_s)
            with suppress(TimeoutError):
                self._receive(connection)
            if said := self._frames(connection):
                raise Wrong(f"an idle client was sent {said[0]}")
        connection.settimeout(TIMEOUT_S)

    def go(self) -> None:
        """Say so, and wait for the server to agree."""
        connection = self._connected()
        connection.sendall(sent(CLOSE, b"\x03\xe8"))
        while not (frames := self._frames(connection)):
            self._receive(connection)
        self.drop()
        if frames[0].opcode != CLOSE or frames[0].close_code != 1000:
            raise Wrong(f"going was answered {frames[0]}")

    def drop(self) -> None:
        """Be gone, without a word."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise Wrong("it is not connected any more")
        return self._socket

    def _hear(self, connection: socket.socket) -> dict[str, Any]:
        while not (frames := self._frames(connection)):
            self._receive(connection)
        if len(frames) > 1 or frames[0].opcode != TEXT:
            raise Wrong(f"one answer was awaited, there came {frames}")
        heard: dict[str, Any] = orjson.loads(frames[0].payload)
        return heard

    def _frames(self, connection: socket.socket) -> list[Frame]:
        """The next message. Pings are answered and left out."""
        frames = taken(self._buffer)
        for one in frames:
            if one.opcode == PING:
                connection.sendall(sent(PONG, one.payload))
        return [one for one in frames if one.opcode != PING]

    def _receive(self, connection: socket.socket) -> None:
        chunk = connection.recv(RECEIVE_BYTES)
        if not chunk:
            self.drop()
            raise Wrong("the service closed the connection")
        self._buffer += chunk


class _Timing(User):
    """Reports what it does to locust."""

    abstract = True

    def timed(self, name: str, work: Callable[[], Any]) -> bool:
        """Whether it went well; a wrong answer is a failure as an error is."""
        started = time.perf_counter()
        failure: Exception | None = None
        try:
            work()
        except (OSError, Wrong) as error:
            failure = error
        elapsed_ms = (time.perf_counter() - started) * 1_000
        self.environment.events.request.fire(
            request_type="WS", name=name, response_time=elapsed_ms, response_length=0, exception=failure
        )
        return failure is None

    def device(self, user: str) -> Device:
        return Device(target(), self.environment.host or "", user)


class App(_Timing):
    """One device of one User that no other client uses."""

    weight = 3
    wait_time = constant_throughput(ROUNDS_A_SECOND)

    def on_start(self) -> None:
        self.me = self.device(f"app-{os.getpid()}-{next(_numbers)}")
        self._come()

    def on_stop(self) -> None:
        self.me.drop()

    @task(4)
    def ask_for_life(self) -> None:
        if self._is_here():
            self.timed("WS ping", lambda: self.me.ask(type="ping"))

    @task(4)
    def ask_for_presence(self) -> None:
        if self._is_here():
            self.timed("WS presence", self._look)

    @task(2)
    def block_and_unblock(self) -> None:
        if self._is_here():
            other = target().any_user()
            self.timed("WS block", lambda: self._list("block", other, True))
            self.timed("WS unblock", lambda: self._list("unblock", other, False))

    @task(2)
    def idle(self) -> None:
        if self._is_here():
            self.timed(f"WS idle {IDLE_S:g} s", lambda: self.me.idle(IDLE_S))

    @task(2)
    def go_and_come(self) -> None:
        if self._is_here():
            self.timed("WS go", self.me.go)
            self._come()

    def _is_here(self) -> bool:
        return self.me.is_here or self._come()

    def _come(self) -> bool:
        return self.timed("WS come", self.me.come)

    def _look(self) -> None:
        stranger = f"{self.me.user}-stranger"
        found = {
            one["user"]: one["online"]
            for one in self.me.ask(type="presence", users=[self.me.user, stranger])["presence"]
        }
        if found != {self.me.user: True, stranger: False}:
            raise Wrong(f"only the connected User must be online, the answer was {found}")

    def _list(self, word: str, other: str, listed: bool) -> None:
        """Once the write is answered, a question must show it."""
        self.me.ask(type=word, users=[other])
        if self.me.ask(type="blacklist", user=other)["listed"] is not listed:
            raise Wrong(f"{word} was answered, and is not to be seen")


class AppCrowd(_Timing):
    """Many devices that break off all at once, and are back at once: a reconnect storm of its own."""

    weight = 1
    wait_time = constant_throughput(STORMS_A_SECOND)

    def on_start(self) -> None:
        name = f"crowd-{os.getpid()}-{next(_numbers)}"
        self.devices = [self.device(f"{name}-{nth}") for nth in range(CROWD)]
        self.timed(f"WS {CROWD} come", self._come)

    def on_stop(self) -> None:
        self._drop()

    @task
    def storm(self) -> None:
        self._drop()
        self.timed(f"WS storm of {CROWD}", self._come)

    def _drop(self) -> None:
        for one in self.devices:
            one.drop()

    def _come(self) -> None:
        """All at once; each of them must be welcome in time, and the last one see all others online."""
        coming = [gevent.spawn(one.come) for one in self.devices]
        gevent.joinall(coming, timeout=BACK_WITHIN_S)
        failed = [one.exception for one in coming if not one.successful()]
        gevent.killall(coming)
        if failed:
            raise Wrong(f"{len(failed)} of {CROWD} did not come back: {failed[0] or f'not within {BACK_WITHIN_S:g} s'}")
        users = [one.user for one in self.devices]
        found = self.devices[-1].ask(type="presence", users=users)["presence"]
        if offline := [one["user"] for one in found if not one["online"]]:
            raise Wrong(f"{len(offline)} of {CROWD} are back and not online")
