"""A Redis or Valkey with the same facts in ordinary structures.

It is asked by a Lua script, or by plain commands that the client judges; and for less than the decision, for comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gate.clock import wall_ms
from gate.core.model import FOREVER_MS, ListKind
from harness.ports import LOOPBACK
from harness.servers import RedisServer
from loadtests.bench.client import ask, connect, encode
from loadtests.bench.facts import FactSet, user_id
from loadtests.bench.load import Target
from loadtests.bench.pairs import Pair
from loadtests.bench.systems import System

SCRIPT = Path(__file__).with_name("check.lua")
LOAD_BATCH = 500
"""Commands on the wire at once while loading."""
PING = encode("PING")
PREFIXES = {ListKind.BLACKLIST: b"bl:", ListKind.WHITELIST: b"wl:"}


class RedisSystem(System):
    """Systems that ask a Redis, or a Valkey, with the facts."""

    def __init__(self, server: RedisServer, name: str) -> None:
        self.name = name
        self._server = server
        self._now = wall_ms()

    @property
    def target(self) -> Target:
        return Target(self._server.port, self._server.pid)


class LuaSystem(RedisSystem):
    """`EVALSHA` of `check.lua`."""

    def __init__(self, server: RedisServer, name: str = "redis lua") -> None:
        super().__init__(server, name)
        self.sha = str(server.client.script_load(SCRIPT.read_text()))

    def commands(self, pair: Pair) -> list[bytes]:
        return [encode("EVALSHA", self.sha, 0, *pair, self._now)]

    def allowed(self, replies: Sequence[Any]) -> bool:
        return bool(replies[0] == 1)


class PlainSystem(RedisSystem):
    """Four plain commands a check, pipelined. The client's judging is not timed, which flatters this one."""

    commands_a_check = 4

    def commands(self, pair: Pair) -> list[bytes]:
        sender, recipient = pair
        return [
            encode("HMGET", b"u:" + sender, "ban", "mute"),
            encode("HGET", b"u:" + recipient, "wl"),
            encode("ZSCORE", b"wl:" + recipient, sender),
            encode("ZSCORE", b"bl:" + recipient, sender),
        ]

    def allowed(self, replies: Sequence[Any]) -> bool:
        (ban, mute), whitelist_on, admitted, blocked = replies
        if any(until and int(until) > self._now for until in (ban, mute)):
            return False
        if whitelist_on:
            return bool(admitted and float(admitted) > self._now)
        return not (blocked and float(blocked) > self._now)


class MemberSystem(RedisSystem):
    """One `SISMEMBER`: whether the sender is on any list of the recipient's. No Bans, no ends, no whitelist."""

    decides = False

    def commands(self, pair: Pair) -> list[bytes]:
        sender, recipient = pair
        return [encode("SISMEMBER", b"s:" + recipient, sender)]

    def allowed(self, replies: Sequence[Any]) -> bool:
        return bool(replies[0] == 0)


class PingSystem(RedisSystem):
    """`PING`: the least that a server of this protocol can do."""

    decides = False

    def commands(self, pair: Pair) -> list[bytes]:
        return [PING]

    def allowed(self, replies: Sequence[Any]) -> bool:
        return True


def load(server: RedisServer, facts: FactSet) -> None:
    """Put the facts in."""
    with connect(LOOPBACK, server.port) as connection:
        batch: list[bytes] = []
        for command in _commands(facts):
            batch.append(encode(*command))
            if len(batch) == LOAD_BATCH:
                ask(connection, b"".join(batch), LOAD_BATCH)
                batch.clear()
        ask(connection, b"".join(batch), len(batch))


def _commands(facts: FactSet) -> Iterable[tuple[bytes | str | int, ...]]:
    for number in facts.banned:
        yield ("HSET", b"u:" + user_id(number), "ban", facts.until_ms)
    for number in facts.muted:
        yield ("HSET", b"u:" + user_id(number), "mute", facts.until_ms)
    for owned in facts.lists():
        owner = user_id(owned.owner)
        if owned.kind is ListKind.WHITELIST:
            yield ("HSET", b"u:" + owner, "wl", 1)
        scored: list[bytes | int] = []
        for members, until_ms in ((owned.members, FOREVER_MS), (owned.ending, facts.until_ms)):
            for member in members:
                scored += (until_ms, user_id(member))
        yield ("ZADD", PREFIXES[owned.kind] + owner, *scored)
        yield ("SADD", b"s:" + owner, *scored[1::2])
