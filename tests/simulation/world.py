"""One schedule: two nodes and a writer, the real ones, on a virtual network to real servers; and the judge of every answer.

Simulated are `Client` with its Links, `Acknowledger`, `NodeAnnouncer`, `Changelog` and `Replicator` with its Replica, as
they are. The judge knows the ledger: which Bans were answered `all`. A node whose facts are fresh must deny each of these
Users, unless the truth (the server that was promoted last) lost the Ban.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from gate.clock import monotonic_ms, wall_ms
from gate.core.model import FOREVER_MS, AppFacts
from gate.errors import ReplicaError, StoreUnavailable
from gate.replica import upkeep
from gate.replica.ports import Upstream
from gate.replica.reading import Reading
from gate.replica.replicator import Replicator
from gate.store import keys
from gate.store.acks import Acknowledger
from gate.store.store import Store
from harness.servers import RedisServer
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Data, Network, Server
from tests.simulation.schedule import ACTORS, LENGTH_MS, Event

APP = "app"
LOOK_EVERY_MS = 50
PARTITIONS = 1
_NEVER_MS = 1 << 50


class Violation(Exception):
    """A node calls facts fresh that lack a write which was answered `all`."""


class Outcome(NamedTuple):
    """The result of a schedule. `violation` is "" if there was none."""

    violation: str
    history: list[str]
    acknowledged: int
    fresh_looks: int


class Servers:
    """Two servers that all schedules of a process share, and what a deployment has at its beginning."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.both = [Server(path) for path in paths]
        self.initial: Data = []

    def aclose(self) -> None:
        for server in self.both:
            server.aclose()


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Start them, in memory, and set a deployment up."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        folders = [Path(made) / name for name in ("a", "b")]
        options = ["--save", "", "--hz", "10"]
        started = [RedisServer.start("redis-7", each, unixsocket=each / "s", extra=options) for each in folders]
        try:
            servers = Servers([each / "s" for each in folders])
            asyncio.run(_set_up(started[0].unix_url))
            servers.initial = servers.both[0].data()
            yield servers
            servers.aclose()
        finally:
            for server in started:
                server.stop()


async def _set_up(url: str) -> None:
    store = await Store.connect(url, partitions=PARTITIONS)
    await store.apps.create(AppFacts(key=APP, secrets=("s",)), 1)
    await store.aclose()


class _Node:
    """A replicator, and a reader of its Replica."""

    def __init__(self, name: str, directory: Path, store: Store) -> None:
        self.name = name
        self.store = store
        self.directory = directory
        self.replicator = Replicator(directory, Upstream(store.changelog, store.announcer(name, "p")))
        self.task = asyncio.get_running_loop().create_task(self.replicator.run())
        self._reader: Reading | None = None

    def allows(self, user: bytes) -> bool:
        """Whether fresh facts say that the User may send."""
        if self._reader is None:
            try:
                self._reader = Reading(self.directory)
            except ReplicaError:
                return False
        if self._reader.stale_ms():
            return False
        with self._reader as snapshot:
            app = snapshot.app(APP)
            return app is not None and app.decide(user, b"bob", wall_ms()).word == "allowed"

    @property
    def is_fresh(self) -> bool:
        return self._reader is not None and self._reader.view().stale_ms == 0

    async def stop(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self.replicator.stop()
        await self.task
        await self.store.aclose()


class World:
    """The system to which events are applied."""

    def __init__(self, servers: Servers, seed: int, directory: Path) -> None:
        self._servers = servers.both
        self._initial = servers.initial
        self._directory = directory
        self.network = Network(random.Random(seed), self._servers)
        self.truth = self._servers[0]
        self._saved: Data = []
        self._nodes: dict[str, _Node] = {}
        self._store: Store
        self._acks: Acknowledger
        self._tasks: set[asyncio.Task[None]] = set()
        self._writes = 0
        self._acknowledged: dict[bytes, int] = {}
        self.history: list[str] = []
        self.fresh_looks = 0
        self._began_ms = monotonic_ms()

    async def begin(self) -> None:
        """A deployment whose registry is settled, without nodes; the writer is connected."""
        first, second = self._servers
        for server in self._servers:
            server.is_up = True
            server.begin_history()
        first.load(self._initial)
        second.load([])
        facts = dict(line.split(":", 1) for line in first.ask("INFO").decode().splitlines() if ":" in line)
        marker = f"first {facts['run_id']}:{facts['master_replid']} 1"
        first.ask("HSET", keys.NODES, "marker", marker)
        self._saved = first.data()
        self.network.leads_to = dict.fromkeys(ACTORS, first)
        self._store = await self._connected("writer")
        self._acks = Acknowledger(self._store, None)
        await self._acks.start()
        self.network.is_rough = True

    async def play(self, events: Sequence[Event]) -> None:
        """Do them at their times, and look at each node meanwhile. Raises `Violation`."""
        ends_ms = max(LENGTH_MS, *(event.at_ms for event in events)) + 1_000 if events else LENGTH_MS
        waiting = list(events)
        self._began_ms = monotonic_ms()
        while (now_ms := monotonic_ms() - self._began_ms) < ends_ms:
            while waiting and waiting[0].at_ms <= now_ms:
                event = waiting.pop(0)
                self._note(str(event).split("ms  ")[1])
                getattr(self, event.what)(*event.arguments)
            self.look()
            self._raise_failures()
            next_ms = waiting[0].at_ms - now_ms if waiting else LOOK_EVERY_MS
            await asyncio.sleep(max(1, min(LOOK_EVERY_MS, next_ms)) / 1_000)

    async def end(self) -> None:
        """Stop everything in order."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for node in list(self._nodes.values()):
            await node.stop()
        if hasattr(self, "_acks"):
            await self._acks.aclose()
            await self._store.aclose()
        for server in self._servers:
            server.end_connections()

    def look(self) -> None:
        """The judge. Raises `Violation`."""
        for node in self._nodes.values():
            for user in self._acknowledged:
                if node.allows(user) and self.truth.ask("EXISTS", keys.user(0, APP, user)):
                    raise Violation(
                        f"{node.name} calls facts fresh that lack {user.decode()}, which was answered `all`"
                    )
            self.fresh_looks += node.is_fresh

    # What a schedule names

    def start(self, name: str) -> None:
        """A node with nothing on its disk."""
        if name not in self._nodes:
            self._spawn(self._start(name))

    def stop(self, name: str) -> None:
        """In order."""
        if name in self._nodes:
            self._spawn(self._nodes.pop(name).stop())

    def write(self, timeout_ms: int) -> None:
        """Ban one more User, and wait for the nodes."""
        self._writes += 1
        self._spawn(self._write(self._store, self._acks, b"user-%d" % self._writes, timeout_ms))

    def command(self, timeout_ms: int) -> None:
        """The same by a process that starts for it, and has heard of no node."""
        self._writes += 1
        self._spawn(self._command(b"user-%d" % self._writes, timeout_ms))

    def save(self) -> None:
        """An older file, for a restart; and what a replica has, for a failover."""
        self._saved = self.truth.data()

    def flush(self) -> None:
        self.truth.ask("FLUSHALL")

    def restart(self) -> None:
        """It comes back with the file that was saved last."""
        self.truth.end_connections()
        self.truth.load(self._saved)
        self.truth.begin_history()

    def failover(self, old: str, lag_ms: int, *late_ms: int) -> None:
        """The replica is promoted with what it has: all, or what was saved if it lags."""
        before, after = self.truth, self._servers[1 - self._servers.index(self.truth)]
        after.end_connections()
        data = self._saved if lag_ms > 750 else before.data()
        after.begin_history()
        after.load(data)
        after.is_up = True
        self.truth = after
        if old == "demoted":
            before.demote()
        elif old == "dies":
            before.is_up = False
            before.end_connections()
        for actor, delay_ms in zip(ACTORS, late_ms, strict=True):
            asyncio.get_running_loop().call_later(delay_ms / 1_000, self._lead, actor, after)

    def cut(self, actor: str) -> None:
        self.network.cut(actor)

    def slow(self, actor: str, extra_ms: int, for_ms: int) -> None:
        self.network.slow(actor, extra_ms, for_ms)

    # How

    def _lead(self, actor: str, server: Server) -> None:
        if server is self.truth:
            self.network.leads_to[actor] = server

    async def _start(self, name: str) -> None:
        store = await self._connected(name)
        if name in self._nodes:
            await store.aclose()
            return
        self._nodes[name] = _Node(name, self._directory / f"{name}-{len(self.history)}", store)

    async def _connected(self, actor: str) -> Store:
        while True:
            with suppress(StoreUnavailable):
                return await Store.connect(f"unix:///{actor}", partitions=PARTITIONS)
            await asyncio.sleep(0.2)

    async def _command(self, user: bytes, timeout_ms: int) -> None:
        store = await self._connected("command")
        acks = Acknowledger(store, None)
        try:
            await acks.start()
            await self._write(store, acks, user, timeout_ms)
        except StoreUnavailable:
            pass  # it was not written
        finally:
            await acks.aclose()
            await store.aclose()

    async def _write(self, store: Store, acks: Acknowledger, user: bytes, timeout_ms: int) -> None:
        try:
            written = await store.bans.impose(APP, [user], FOREVER_MS, 1)
        except StoreUnavailable as fault:
            self._note(f"Ban of {user.decode()}: {fault.outcome}")
            return
        applied = await acks.wait(written, timeout_ms)
        self._note(f"Ban of {user.decode()}: {applied}, {written.revisions[0]}, listed {sorted(written.live_nodes)}")
        if applied == "all":
            self._acknowledged[user] = monotonic_ms()
            self.look()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

    def _raise_failures(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()
        for node in self._nodes.values():
            if node.task.done():
                node.task.result()
                raise Violation(f"the replicator of {node.name} ended")

    def _note(self, what: str) -> None:
        self.history.append(f"{monotonic_ms() - self._began_ms:>6} ms  {what}")

    @property
    def acknowledged(self) -> int:
        return len(self._acknowledged)


def simulate(servers: Servers, seed: int, events: Sequence[Event]) -> Outcome:
    """Run one schedule from the beginning."""
    structlog.configure(processors=[_drop])
    random.seed(seed)  # what Gate draws for its pauses
    scrub_after_ms, upkeep.FIRST_SCRUB_AFTER_MS = (
        upkeep.FIRST_SCRUB_AFTER_MS,
        _NEVER_MS,
    )  # a scrub is a process in real time
    directory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(_simulate(servers, seed, events, directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        upkeep.FIRST_SCRUB_AFTER_MS = scrub_after_ms
        structlog.reset_defaults()


async def _simulate(servers: Servers, seed: int, events: Sequence[Event], directory: Path) -> Outcome:
    world = World(servers, seed, directory)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.connect = world.network.connect
    violation = ""
    try:
        await world.begin()
        await world.play(events)
    except Violation as found:
        violation = str(found)
        world.history.append(f"{monotonic_ms() - world._began_ms:>6} ms  {violation}")
    finally:
        await world.end()
    return Outcome(violation, world.history, world.acknowledged, world.fresh_looks)


def _drop(_logger: object, _method: str, _event: object) -> str:
    raise structlog.DropEvent
