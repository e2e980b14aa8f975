"""A Gateway as a process of its own, so that it can be killed as one: `python -m tests.faults.played_gateway`.

It keeps to docs/protocol.md and to nothing else. What it is to be comes as one line of JSON on stdin; there it also hears
`settle` (no more comings and goings), `held` (answered with the ids of its Sessions, or null while it is not sure) and the end.

    a connection that breaks, FENCED  nobody knows what came of what was under way: a higher epoch, everybody connected again
    UNAVAILABLE                       the same is asked again; a Session of which it never learned is the worker's to close
    NOLEASE                           Redis lost the lease: taken again, same epoch
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

from tests.harness.ports import LOOPBACK

BEAT_S = 0.3
"""A third of the lease, about."""
PACE_S = 0.02
MOST_AT_ONCE = 12
TIMEOUT_S = 5.0
PLATFORMS = ("iOS", "Web")


class Orders(NamedTuple):
    """What a Gateway is to be."""

    name: str
    port: int
    app_key: str
    app_secret: str
    tokens: list[str]
    seed: int
    sessions: int
    """About how many it holds."""


class Wanted(NamedTuple):
    """A client that is connected to it, whatever happens behind."""

    token: str
    platform: str


class Lost(Exception):
    """Begin again with a higher epoch."""


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
        """Lose everything, begin again, for ever."""
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
        """One beat of the lease, and what happens in between."""
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
        """The answer, as soon as Redis is there again."""
        while True:
            (reply,) = self._pipeline([command])
            if not isinstance(reply, redis.ResponseError):
                return reply
            if not str(reply).startswith("UNAVAILABLE"):
                raise Lost(str(reply))
            self._is_sure = False
            self._listen(PACE_S)

    def _exchange(self) -> None:
        """Some connect, some go, and what is owed of either is asked again, in one pipeline."""
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
        """Hear what is said on stdin, and be quiet for that long otherwise."""
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
    """The first line, and not a byte more: a buffer would hide from `select` what was said behind it."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1)
    return Orders(**json.loads(line))


if __name__ == "__main__":
    PlayedGateway(_orders()).run()
