"""Redis 7 with the same facts in ordinary structures: asked by a Lua script, or by plain commands that the client judges."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gate.clock import wall_ms
from gate.core.model import FOREVER_MS, ListKind
from loadtests.bench.client import ask, connect, encode
from loadtests.bench.facts import FactSet, user_id
from loadtests.bench.pairs import Pair
from tests.harness.ports import LOOPBACK
from tests.harness.servers import RedisServer

SCRIPT = Path(__file__).with_name("check.lua")
LOAD_BATCH = 500
"""Commands on the wire at once while loading."""
PREFIXES = {ListKind.BLACKLIST: b"bl:", ListKind.WHITELIST: b"wl:"}


class LuaSystem:
    """`EVALSHA` of `check.lua`."""

    name = "redis lua"
    replies_a_check = 1

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.sha = str(server.client.script_load(SCRIPT.read_text()))
        self._now = b"%d" % wall_ms()

    def connect(self) -> socket.socket:
        return connect(LOOPBACK, self._server.port)

    def request(self, pair: Pair) -> bytes:
        return encode("EVALSHA", self.sha, 0, *pair, self._now)

    def allowed(self, replies: Sequence[Any]) -> bool:
        return bool(replies[0] == 1)


class PlainSystem:
    """Four plain commands a check, pipelined. The client's judging is not timed, which flatters this one."""

    name = "redis plain"
    replies_a_check = 4

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._now = wall_ms()

    def connect(self) -> socket.socket:
        return connect(LOOPBACK, self._server.port)

    def request(self, pair: Pair) -> bytes:
        sender, recipient = pair
        return (
            encode("HMGET", b"u:" + sender, "ban", "mute")
            + encode("HGET", b"u:" + recipient, "wl")
            + encode("ZSCORE", b"wl:" + recipient, sender)
            + encode("ZSCORE", b"bl:" + recipient, sender)
        )

    def allowed(self, replies: Sequence[Any]) -> bool:
        (ban, mute), whitelist_on, admitted, blocked = replies
        if any(until and int(until) > self._now for until in (ban, mute)):
            return False
        if whitelist_on:
            return bool(admitted and float(admitted) > self._now)
        return not (blocked and float(blocked) > self._now)


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
