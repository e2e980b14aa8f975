"""A seeded storm over Presence: Gateways, the service and Redis are killed while Users connect and leave; then it is calm.

Some Users connect through Gateways, others by WebSocket. In the end the counts equal the Sessions that the living Gateways and
the clients hold, and no others. The feed, which a follower read all the time, has every transition once: without a hole, and
alternating for each User.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gate.clock import wall_ms
from gate.core import token
from gate.core.model import AppFacts
from gate.core.presence import LOCAL_GATEWAY_PREFIX, Cursor, Event
from gate.errors import StoreUnavailable
from gate.service.directory_layout import node_id
from gate.store import presence_keys as keys
from gate.store.feed import Feed
from gate.store.presence import PresenceStore
from harness.seeds import seed
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until, wait_until_async
from tests.faults.crowd import Crowd
from tests.faults.node import RECOVERY_TIMEOUT_S
from tests.presence.played import presence_on
from tests.presence.takes_turns import TakesTurns
from tests.service.running import pid_of

ROOT = Path(__file__).parents[2]
SEED = seed(20_261_123)
STORM_S = 20.0
CALM_S = (0.2, 1.5)
"""Between two faults. A process that dies repeatedly is restarted later each time, and then nothing happens any more."""
LEASE_MS = 1_000
SESSIONS_EACH = 25
WEBSOCKETS = 25
USERS = [b"user %d" % number for number in range(300)]
GATEWAYS = ("edge-1", "edge-2", "edge-3")
ROLES = ("worker", "background", "http")
LEAST_ENTRIES, LEAST_FAULTS, LEAST_WELCOMED = 200, 6, 100
"""Fewer prove nothing. An idle machine makes a thousand and twenty."""
PAGE = 1_000


class GatewayProcess:
    """A Gateway that the test kills and starts."""

    def __init__(self, name: str, node: GateService, seed: int) -> None:
        self._name = name
        self._node = node
        self._seed = seed
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        if self._process is not None:
            return
        credentials = self._node.credentials
        self._seed += 1
        orders = {
            "name": self._name,
            "port": self._node.resp_port,
            "app_key": credentials.app_key,
            "app_secret": credentials.app_secret,
            "tokens": tokens(self._node),
            "seed": self._seed,
            "sessions": SESSIONS_EACH,
        }
        command = [sys.executable, "-m", "tests.faults.played_gateway"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.say(json.dumps(orders))

    def kill(self) -> None:
        """SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.stdout.close()

    def say(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def held(self) -> list[str] | None:
        """The ids of its Sessions; None while it is not sure of them."""
        self.say("held")
        assert self._process is not None and self._process.stdout is not None
        held: list[str] | None = json.loads(self._process.stdout.readline())
        return held


def tokens(node: GateService) -> list[str]:
    """One for each User."""
    app = AppFacts(key=node.credentials.app_key, secrets=(node.credentials.app_secret,))
    return [token.mint(app, user, wall_ms(), os.urandom(8)) for user in USERS]


class Follower:
    """Reads the feed all the time, from its last position."""

    def __init__(self, store: PresenceStore, app_key: str) -> None:
        self._feed = Feed(store.client, app_key)
        self.events: list[Event] = []
        self.cursor = Cursor("0", 0, 0)

    async def run(self) -> None:
        while True:
            try:
                found = await self._feed.wait(self.cursor, PAGE, 200)
            except StoreUnavailable:
                await asyncio.sleep(0.05)
                continue
            self.events += found
            self.cursor = found[-1].cursor if found else self.cursor

    async def aclose(self) -> None:
        await self._feed.aclose()


class Storm:
    """The service, its Redis, its Gateways, and random faults."""

    def __init__(self, services: Services, server: RedisServer, data: Path) -> None:
        self._services = services
        self._data = data
        self.server = server
        self.chance = random.Random(SEED)
        self.node = self._start()
        self.gateways = [GatewayProcess(name, self.node, SEED + nth * 100) for nth, name in enumerate(GATEWAYS)]
        self.crowd = Crowd(lambda: self.node.http, tokens(self.node), SEED, WEBSOCKETS)
        self.faults: list[str] = []

    @property
    def app_key(self) -> str:
        return self.node.credentials.app_key

    @property
    def own_gateway(self) -> str:
        """The name under which the node holds its clients' Sessions."""
        return LOCAL_GATEWAY_PREFIX.decode() + node_id(self._data / "node-id")

    def strike(self) -> None:
        """One fault."""
        kind = self.chance.choice(["gateway", "gateway", "role", "role", "service", "redis", "redis", "kick", "kick"])
        match kind:
            case "gateway":
                self.chance.choice(self.gateways).kill()
            case "role":
                kind = self.chance.choice(ROLES)
                if (pid := pid_of(self.node, kind)) is not None:
                    os.kill(pid, 9)
            case "service":
                self.node.kill_all()
                self.node = self._start(self.node)
            case "redis":
                self.server.kill()
                self.server.restart()
            case _:
                self._kick(self.chance.choice(USERS).decode())
        self.faults.append(kind)

    def mend(self) -> None:
        """Gateways that were killed are started again, sooner or later than their lease ends."""
        for gateway in self.gateways:
            if self.chance.random() < 0.6:
                gateway.start()

    def settle(self) -> dict[str, list[str]]:
        """No User connects or leaves any more. Return what each Gateway holds, including the node itself."""
        self.crowd.settle()
        held = {}
        for gateway in self.gateways:
            gateway.start()
            gateway.say("settle")
        for name, gateway in zip(GATEWAYS, self.gateways, strict=True):
            held[name] = wait_until(lambda: _in_a_list(gateway.held()), RECOVERY_TIMEOUT_S, f"{name} to be sure")[0]  # noqa: B023
        own = wait_until(lambda: _in_a_list(self.crowd.held()), RECOVERY_TIMEOUT_S, "all clients to be back")[0]
        held[self.own_gateway] = own
        return held

    def end(self) -> None:
        for gateway in self.gateways:
            gateway.kill()

    def _start(self, before: GateService | None = None) -> GateService:
        return self._services.start(
            "--lease-ttl-ms",
            str(LEASE_MS),
            data=self._data,
            redis_url=self.server.url,
            workers=2,
            http_port=None if before is None else int(before.http.rpartition(":")[2]),
            resp_port=None if before is None else before.resp_port,
        )

    def _kick(self, user: str) -> None:
        credentials = self.node.credentials
        basic = b64encode(f"{credentials.app_key}:{credentials.app_secret}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
        url = f"{self.node.http}/v1/users/{quote(user)}/kick"
        try:
            urllib.request.urlopen(urllib.request.Request(url, b"{}", headers), timeout=5).close()
        except urllib.error.HTTPError as error:
            assert error.code == 503, error
        except OSError:
            return  # the HTTP process was killed


@pytest.fixture
def storm(start_service: Services, tmp_path: Path) -> Iterator[Storm]:
    server = RedisServer.start("valkey-9", tmp_path / "redis", aof=True)
    storm = Storm(start_service, server, tmp_path / "data")
    try:
        yield storm
    finally:
        storm.end()
        start_service.end_all()
        server.stop()


@asynccontextmanager
async def following(store: PresenceStore, app_key: str) -> AsyncIterator[Follower]:
    follower = Follower(store, app_key)
    running = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await follower.aclose()


async def test_counts_are_the_live_sessions_and_each_transition_is_fed_once(storm: Storm) -> None:
    store = presence_on(storm.server.url, 1_000)
    try:
        async with following(store, storm.app_key) as follower, storm.crowd.out():
            await asyncio.to_thread(_blow, storm)
            held = await asyncio.to_thread(storm.settle)
            await wait_until_async(lambda: _is_calm(storm), RECOVERY_TIMEOUT_S, "all to be swept and announced")
            await _holds(store, storm, held)
            head = await Feed(store.client, storm.app_key).head()
            await wait_until_async(lambda: follower.cursor == head, RECOVERY_TIMEOUT_S, "the follower to be there")
            await _fed_once(store, storm, follower.events)
        assert storm.crowd.welcomed >= LEAST_WELCOMED
        assert len(follower.events) >= LEAST_ENTRIES
        assert len(storm.faults) >= LEAST_FAULTS, storm.faults
    finally:
        # Shown if the test fails.
        print("faults:", *storm.faults)
        await store.client.aclose()


def _blow(storm: Storm) -> None:
    for gateway in storm.gateways:
        gateway.start()
    ends_s = time.monotonic() + STORM_S
    while time.monotonic() < ends_s:
        time.sleep(storm.chance.uniform(*CALM_S))
        storm.strike()
        storm.mend()


def _is_calm(storm: Storm) -> bool:
    base = keys.base(storm.app_key)
    return storm.server.client.exists(base + b"ending", base + b"leaving") == 0


async def _holds(store: PresenceStore, storm: Storm, held: dict[str, list[str]]) -> None:
    """The store's Sessions and counts must equal those of the Gateways, Session by Session."""
    presences = await store.presences(storm.app_key, USERS)
    found: dict[str, list[str]] = {name: [] for name in held}
    for presence in presences:
        for session in presence.sessions:
            found[session.gateway.decode()].append(session.id)
    assert {name: sorted(ids) for name, ids in found.items()} == held
    counts = await store.counts(storm.app_key)
    assert {name.decode(): many for name, many in counts.by_gateway().items()} == {
        name: len(ids) for name, ids in held.items() if ids
    }
    assert (counts.users, counts.sweeping) == (sum(presence.online for presence in presences), 0)


async def _fed_once(store: PresenceStore, storm: Storm, followed: list[Event]) -> None:
    """The follower must have read the whole feed, which ends with exactly the platforms that have Sessions."""
    feed = Feed(store.client, storm.app_key)
    whole: list[Event] = []
    while some := await feed.read(whole[-1].cursor if whole else Cursor("0", 0, 0), PAGE):
        whole += some
    assert followed == whole
    turns = TakesTurns()
    turns.follow(whole)
    presences = await store.presences(storm.app_key, USERS)
    live = {user: {one.platform for one in one.sessions} for user, one in zip(USERS, presences, strict=True)}
    assert {user: turns.on.get(user, set()) for user in USERS} == live


def _in_a_list(held: list[str] | None) -> list[Any]:
    """Distinguishes an empty list from an unsure Gateway."""
    return [] if held is None else [held]
