"""A Gateway in a separate process, so that it can be killed: `python -m tests.faults.played_gateway`.

It follows only docs/protocol.md. It reads its configuration as one line of JSON from stdin, then the commands `settle` (no more
connects and disconnects) and `held` (answered with the ids of its Sessions, or null while it is not sure), and the end.

    a broken connection, FENCED  the outcome of commands in flight is unknown: take a higher epoch, connect all Users again
    UNAVAILABLE                  send the same command again; the worker closes Sessions that it never learned of
    NOLEASE                      Redis lost the lease: take it again with the same epoch
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.ports import LOOPBACK

BEAT_S = 0.3
"""About a third of the lease."""
PACE_S = 0.02
MOST_AT_ONCE = 12
TIMEOUT_S = 5.0
PLATFORMS = ("iOS", "Web")


class Orders(NamedTuple):
    """The configuration of a Gateway."""

    name: str
    port: int
    app_key: str
    app_secret: str
    tokens: list[str]
    seed: int
    sessions: int
    """Approximate number of Sessions."""


class Wanted(NamedTuple):
    """A client that is connected to it, regardless of faults behind it."""

    token: str
    platform: str


class Lost(Exception):
    """Start again with a higher epoch."""


class PlayedGateway:
    """One Gateway; `run` until stdin ends."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._chance = random.Random(orders.seed)
        self._client = redis.Redis(
            host=LOOPBACK,
            port=orders.port,
            username=orders.app_key,
            password=orders.app_secret,
            socket_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=3,
            max_connections=1,
        )
        self._epoch = 0
        self._cursor = "$"
        self._held: dict[str, Wanted] = {}
        self._owed: list[Wanted] = []
        self._leaving: list[str] = []
        self._is_settling = False
        self._is_sure = False
        self._unread = b""

    def run(self) -> None:
        """Lose everything and start again, forever."""
        while True:
            try:
                self._begin()
                while True:
                    self._live()
            except (Lost, redis.RedisError, OSError) as why:
                print(f"{self._orders.name} begins again: {why!r}", file=sys.stderr)
                self._is_sure = False
                self._client.connection_pool.disconnect()
                self._listen(PACE_S * 5)

    def _begin(self) -> None:
        self._epoch = max(self._epoch + 1, time.time_ns() // 1_000_000)
        self._lease()
        if self._cursor == "$":
            self._cursor = self._ask_until(("GATE.EVENTS", "$"))[0].decode()
        self._owed += self._held.values()
        self._held, self._leaving = {}, []

    def _live(self) -> None:
        """One beat of the lease, and the commands in between."""
        until = time.monotonic() + BEAT_S
        while (now := time.monotonic()) < until:
            self._exchange()
            self._heed_kicks()
            self._is_sure = not self._owed and not self._leaving
            self._listen(min(PACE_S, until - now))
        self._lease()

    def _lease(self) -> None:
        self._ask_until(("GATE.LEASE", self._orders.name, str(self._epoch)))

    def _ask_until(self, command: Sequence[str]) -> Any:
        """Return the answer once Redis is back."""
        while True:
            (reply,) = self._pipeline([command])
            if not isinstance(reply, redis.ResponseError):
                return reply
            if not str(reply).startswith("UNAVAILABLE"):
                raise Lost(str(reply))
            self._is_sure = False
            self._listen(PACE_S)

    def _exchange(self) -> None:
        """Connect some, disconnect some, and repeat what failed of both, in one pipeline."""
        if not self._is_settling:
            self._come_and_go()
        owed, leaving = self._owed, self._leaving
        connects = [("GATE.CONNECT", one.token, one.platform, self._orders.name) for one in owed]
        replies = self._pipeline([*connects, *(("GATE.DISCONNECT", session) for session in leaving)])
        self._owed, self._leaving = [], []
        for one, reply in zip(owed, replies, strict=False):
            if isinstance(reply, bytes):
                self._held[reply.decode()] = one
            else:
                self._expect_away(reply)
                self._owed.append(one)
        for session, reply in zip(leaving, replies[len(owed) :], strict=True):
            if not isinstance(reply, int):
                self._expect_away(reply)
                self._leaving.append(session)

    def _come_and_go(self) -> None:
        for _ in range(self._chance.randrange(MOST_AT_ONCE)):
            if self._held and self._chance.random() < len(self._held) / (2 * self._orders.sessions):
                session = self._chance.choice(list(self._held))
                del self._held[session]
                self._leaving.append(session)
            elif len(self._held) + len(self._owed) < 2 * self._orders.sessions:
                self._owed.append(Wanted(self._chance.choice(self._orders.tokens), self._chance.choice(PLATFORMS)))

    def _expect_away(self, reply: Any) -> None:
        if str(reply).startswith("NOLEASE"):
            self._lease()
        elif not str(reply).startswith("UNAVAILABLE"):
            raise Lost(str(reply))

    def _heed_kicks(self) -> None:
        (reply,) = self._pipeline([("GATE.EVENTS", self._cursor, "COUNT", "1000", "GATEWAY", self._orders.name)])
        if isinstance(reply, redis.ResponseError):
            if not str(reply).startswith("UNAVAILABLE"):
                raise AssertionError(f"the feed lost something: {reply}")
            return
        self._cursor = reply[0].decode()
        for fields in reply[1]:
            self._held.pop(fields[b"session"].decode(), None)

    def _pipeline(self, commands: Sequence[Sequence[str]]) -> list[Any]:
        if not commands:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return pipeline.execute(raise_on_error=False)

    def _listen(self, for_s: float) -> None:
        """Read commands from stdin for this long."""
        if not select.select([0], [], [], max(0.0, for_s))[0]:
            return
        heard = os.read(0, 4_096)
        if not heard:
            sys.exit()
        *lines, self._unread = (self._unread + heard).split(b"\n")
        for line in lines:
            if line == b"settle":
                self._is_settling = True
            elif line == b"held":
                held = sorted(self._held) if self._is_settling and self._is_sure else None
                os.write(1, json.dumps(held).encode() + b"\n")


def _orders() -> Orders:
    """Read the first line, and not a byte more: a buffer would hide later lines from `select`."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1)
    return Orders(**json.loads(line))


if __name__ == "__main__":
    PlayedGateway(_orders()).run()
