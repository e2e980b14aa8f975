"""A seeded storm: writes and faults at random against an oracle, then calm, and every verdict must be the oracle's.

A write that was answered with a Revision is a fact. One that was refused, or whose outcome is unknown, is owed: it is repeated,
and no other is made, until it is answered. So the oracle knows every fact in the end.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.faults.calls import Answer, Pair
from tests.faults.node import RECOVERY_TIMEOUT_S, Node
from tests.faults.steady import Steady
from tests.harness.cable import Cable
from tests.harness.servers import RedisServer
from tests.harness.service import Services
from tests.harness.waiting import wait_until

SEED = 20_240_601
STORM_S = 20.0
FAULT_S = 0.4
"""How long one lasts: writes go on meanwhile, and some faults are over before anybody noticed."""
USERS = 12
MIN_WRITES, MIN_FAULTS = 100, 5
"""Fewer prove nothing. An idle machine makes thousands and twenty."""
ROLES = ("replicator", "background", "worker", "http")


@dataclass
class Oracle:
    """What was acknowledged, one naive set a kind."""

    banned: set[str] = field(default_factory=set)
    blocked: set[Pair] = field(default_factory=set)
    whitelisted: set[str] = field(default_factory=set)

    def word(self, sender: str, recipient: str) -> str:
        if sender in self.banned:
            return "sender-banned"
        if recipient in self.whitelisted:
            return "not-whitelisted"
        return "blacklisted" if (recipient, sender) in self.blocked else "allowed"


Write = tuple[Callable[[], Answer], Callable[[], None]]
"""How it is sent, and how the oracle notes it."""


class Storm:
    """One node behind a cable, and what chance does to it."""

    def __init__(self, node: Node, server: RedisServer, cable: Cable, seed: int) -> None:
        self.node = node
        self.oracle = Oracle()
        self._server = server
        self._cable = cable
        self._chance = random.Random(seed)
        self._users = [f"user {number}" for number in range(USERS)]
        self._owed: Write | None = None

    def write(self) -> bool:
        """One random write, or again the one that is owed; whether it is in."""
        send, note = self._owed = self._owed or self._another()
        try:
            answer = send()
        except OSError:
            return False  # HTTP was killed: refused, or cut off in the middle
        assert answer.status in (200, 503), answer
        if answer.status == 503:
            return False
        note()
        self._owed = None
        return True

    def settle(self) -> None:
        """Until nothing is owed."""
        wait_until(self.write, RECOVERY_TIMEOUT_S, "a write to be in")

    def _another(self) -> Write:
        one, other = self._chance.sample(self._users, 2)
        http, oracle = self.node.http, self.oracle
        match self._chance.choice(["ban", "unban", "block", "unblock", "switch on", "switch off"]):
            case "ban":
                return lambda: http.ban(one), lambda: oracle.banned.add(one)
            case "unban":
                return lambda: http.unban(one), lambda: oracle.banned.discard(one)
            case "block":
                return lambda: http.block(one, other), lambda: oracle.blocked.add((one, other))
            case "unblock":
                return lambda: http.unblock(one, other), lambda: oracle.blocked.discard((one, other))
            case "switch on":
                return lambda: http.switch_whitelist(one, True), lambda: oracle.whitelisted.add(one)
            case _:
                return lambda: http.switch_whitelist(one, False), lambda: oracle.whitelisted.discard(one)

    def fault(self, ending: ExitStack) -> None:
        """One random fault; it is over when `ending` closes."""
        chance = self._chance.random()
        if chance < 0.15:
            ending.enter_context(self._server.paused())
        elif chance < 0.3:
            ending.enter_context(self._cable.cut_off())
        elif chance < 0.45:
            ending.enter_context(self._cable.frozen())
        elif chance < 0.55:
            self._server.kill()
            ending.callback(self._server.restart)
        elif chance < 0.65:
            self._cable.delay_ms = 100.0
            ending.callback(setattr, self._cable, "delay_ms", 0.0)
        elif chance < 0.75:
            for log in self._server.client.scan_iter("gate:{*}:log"):
                self._server.client.xtrim(log, maxlen=self._chance.randrange(3), approximate=False)
        else:
            self._kill(self._chance.choice(ROLES))

    def _kill(self, role: str) -> None:
        mark = f"gate.service.role {role} "
        for one in self.node.service.processes():
            if mark in f"{one.command} ":
                os.kill(one.pid, signal.SIGKILL)
                return  # one of them, and none while the last one is still being restarted

    def verdicts(self) -> dict[Pair, str]:
        """All that the oracle knows."""
        return {(a, b): self.oracle.word(a, b) for a in self._users for b in self._users}


@pytest.fixture
def storm(start_service: Services, private_redis_with_log: RedisServer) -> Iterator[Storm]:
    with Cable(private_redis_with_log.port) as cable:
        service = start_service.start(redis_url=cable.url, workers=2)
        yield Storm(Node(service, private_redis_with_log.url), private_redis_with_log, cable, SEED)
        service.stop()


@pytest.fixture
def private_redis_with_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer.start("valkey-9", tmp_path_factory.mktemp("stormy"), aof=True)
    yield server
    server.stop()


def test_after_the_storm_every_verdict_is_right(storm: Storm) -> None:
    node = storm.node
    steadfast = node.pairs("steadfast")
    writes = faults = 0
    ends_s = time.monotonic() + STORM_S
    with Steady(node.service, steadfast, without=["http", "resp"]):
        while time.monotonic() < ends_s:
            over_s = time.monotonic() + FAULT_S
            with ExitStack() as ending:
                storm.fault(ending)
                faults += 1
                while time.monotonic() < over_s:
                    writes += storm.write()
            while time.monotonic() < over_s + FAULT_S:
                writes += storm.write()
        storm.settle()
        node.wait_whole()
    node.asserts({**steadfast, **storm.verdicts()})
    assert writes > MIN_WRITES, writes
    assert faults > MIN_FAULTS, faults
