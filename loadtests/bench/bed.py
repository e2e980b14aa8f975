"""The servers of the rows: each is started and loaded when a row first needs it, and all are stopped together.

One Valkey 9 with its append-only file on is Gate's store, shared by two nodes, so that a row can look at another node and
restart one; one Redis 7 and one Valkey 9 hold the same facts for the peers. A node of its own, with a Valkey for its Sessions
alone, is there for Presence, another one with nothing but what it brings for WebSockets. Everything is stored in one temporary
directory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from gate.core.model import ListKind
from harness.registry import settle_at
from harness.servers import RedisServer
from harness.service import GateService
from loadtests.bench.facts import FactSet, user_id
from loadtests.bench.load import SOURCE, Script, build
from loadtests.bench.pairs import Pair, Spread, make_pairs
from loadtests.bench.systems import System, prepared
from loadtests.bench.systems.gate import GateSystem
from loadtests.bench.systems.redis_peers import LuaSystem, MemberSystem, PingSystem, PlainSystem, load

PAIRS_AT_SCALE_1 = 400_000
LEAST_PAIRS = 5_120
READY_TIMEOUT_S = 600.0
REPOSITORY = Path(__file__).parents[2]
LIST_WORDS = {ListKind.BLACKLIST: "blacklist", ListKind.WHITELIST: "whitelist"}


class BedFailed(RuntimeError):
    """The servers could not be loaded."""


@dataclass(frozen=True)
class Options:
    """How large, how long, how often."""

    scale: float = 1.0
    seconds: float = 0.6
    """Of each timed round."""
    rounds: int = 5
    """Of each figure, of which the median counts; systems take turns within a round."""


class Bed:
    """Use as a context; leaving it ends every server and removes every file."""

    def __init__(self, options: Options, console: Console) -> None:
        self.options = options
        self.console = console
        self.facts = FactSet(options.scale)
        self._stack = ExitStack()
        self.may_send_us = 0.0
        """The measured time of `Replica.may_send` for a pair, in process; 0 before it is measured."""
        self._pairs: dict[Spread, list[Pair]] = {}

    def __enter__(self) -> Bed:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="gate-bench-")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def pairs(self, spread: Spread) -> list[Pair]:
        """The pairs that every system is asked."""
        if spread not in self._pairs:
            count = max(LEAST_PAIRS, round(PAIRS_AT_SCALE_1 * self.options.scale))
            self._pairs[spread] = make_pairs(spread, self.facts.users, count)
        return self._pairs[spread]

    @cached_property
    def edges(self) -> int:
        return self.facts.edges()

    @cached_property
    def store(self) -> RedisServer:
        """Gate's store."""
        server = RedisServer.start("valkey-9", self.folder / "store", aof=True)
        self._stack.callback(server.stop)
        return server

    @cached_property
    def node(self) -> GateService:
        """The node that is asked, one hot worker, loaded through `gate import`."""
        node = self.start_node("node")
        self._timed("gate: import", lambda: self._import(node))
        return node

    @cached_property
    def gate(self) -> GateSystem:
        return GateSystem(self.node, self.node.credentials)

    @cached_property
    def peers(self) -> RedisServer:
        """Redis 7 with the facts."""
        server = RedisServer.start("redis-7", self.folder / "peers")
        self._stack.callback(server.stop)
        self._timed("redis: load the same facts", lambda: load(server, self.facts))
        return server

    @cached_property
    def presence_store(self) -> RedisServer:
        """The Redis of the Sessions of `presence` only."""
        server = RedisServer.start("valkey-9", self.folder / "presence-store", aof=True)
        self._stack.callback(server.stop)
        return server

    @cached_property
    def presence(self) -> GateService:
        """A node without facts, whose Presence is stored in `presence_store`."""
        node = GateService.start(self.folder / "presence", "--presence-redis", self.presence_store.url, workers=1)
        self._stack.callback(node.stop)
        return node

    @cached_property
    def websockets(self) -> GateService:
        """A node as `make serve` starts it, with the embedded server for everything; for WebSockets."""
        node = GateService.start(self.folder / "websockets", workers=1)
        self._stack.callback(node.stop)
        return node

    @cached_property
    def valkey_peers(self) -> RedisServer:
        """Valkey 9 with the facts."""
        server = RedisServer.start("valkey-9", self.folder / "valkey-peers")
        self._stack.callback(server.stop)
        self._timed("valkey: load the same facts", lambda: load(server, self.facts))
        return server

    @cached_property
    def lua(self) -> LuaSystem:
        return LuaSystem(self.peers)

    @cached_property
    def ping(self) -> PingSystem:
        return PingSystem(self.peers, "ping")

    @cached_property
    def peer_systems(self) -> list[System]:
        """The systems that are measured in turn with Gate."""
        return [
            self.lua,
            PlainSystem(self.peers, "redis plain"),
            MemberSystem(self.peers, "sismember"),
            self.ping,
            LuaSystem(self.valkey_peers, "valkey lua"),
            MemberSystem(self.valkey_peers, "valkey sismember"),
        ]

    @cached_property
    def load_client(self) -> Path:
        """The load client's program. Raises `NoCompiler`."""
        return build(SOURCE, self.folder / "load")

    def prepared(self, system: System, spread: Spread, most: int | None = None) -> tuple[Script, list[bool]]:
        """The requests of the load client, and the system's answers to each pair, as recorded in Python."""
        path = self.folder / f"{system.name.replace(' ', '-')}-{spread}.script"
        return prepared(system, self.pairs(spread)[:most], path)

    @contextmanager
    def second_node(self, env: Mapping[str, str], name: str = "second-node") -> Iterator[GateService]:
        """A node with the same facts and another environment; it goes on from its Replica the second time."""
        _ = self.node
        node = self.start_node(name, env)
        try:
            yield node
        finally:
            node.stop()

    @contextmanager
    def without_core(self) -> Iterator[GateSystem]:
        """Gate where checks are answered in Python."""
        with self.second_node({"GATE_NATIVE": "0"}) as node:
            yield GateSystem(node, self.node.credentials, "gate without core")

    @contextmanager
    def before(self, commit: str) -> Iterator[GateSystem]:
        """Gate as it was at a commit, as a node of its own on the same store. Raises `BedFailed` without that commit."""
        sources = self.folder / f"sources-{commit}"
        sources.mkdir(exist_ok=True)
        archive = subprocess.run(["git", "archive", commit, "gate"], cwd=REPOSITORY, capture_output=True, check=False)
        if archive.returncode:
            raise BedFailed(f"left out: no commit {commit} here: {archive.stderr.decode(errors='replace').strip()}")
        subprocess.run(["tar", "-x", "-C", sources], input=archive.stdout, check=True)
        with self.second_node({"PYTHONPATH": str(sources), "PYTHONSAFEPATH": "1"}, f"node-{commit}") as node:
            yield GateSystem(node, self.node.credentials, f"gate {commit}")

    def start_node(self, name: str, env: Mapping[str, str] | None = None) -> GateService:
        """A node of its own on the store; in a folder that exists it goes on from its Replica. Returns when it is ready."""
        node = GateService.start(self.folder / name, redis_url=self.store.url, workers=1, env=env, wait=False)
        self._stack.callback(node.stop)
        node.wait_ready(READY_TIMEOUT_S)
        settle_at(self.store.url)
        return node

    def say(self, line: str) -> None:
        self.console.print(line, style="dim", highlight=False)

    def _timed(self, what: str, work: Callable[[], Any]) -> None:
        started = time.perf_counter()
        result = work()
        self.say(f"{what}: {time.perf_counter() - started:.1f} s{'' if result is None else f', {result}'}")

    def _import(self, node: GateService) -> str:
        path = self.folder / "facts.ndjson"
        _write_import(self.facts, path)
        command = [sys.executable, "-m", "gate", "import", str(path), "--json", "--data", str(node.data)]
        done = subprocess.run([*command, "--redis", self.store.url], capture_output=True, text=True, check=False)
        summary = json.loads(done.stdout) if done.returncode == 0 else {}
        if summary.get("applied") != "all":
            raise BedFailed(f"gate import ended with {done.returncode}: {done.stdout}{done.stderr}")
        path.unlink()
        return f"{summary['entries']:,} facts, {summary['entries_per_second']:,}/s"


def create_app(node: GateService, name: str, *options: str) -> tuple[str, str]:
    """Key and secret of an App that is made among the node's facts. Raises `BedFailed`."""
    command = [sys.executable, "-m", "gate", "app", "create", name, *options, "--json", "--data", str(node.data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BedFailed(f"gate app create ended with {done.returncode}: {done.stderr}")
    made = json.loads(done.stdout)
    return made["app_key"], made["app_secret"]


def _write_import(facts: FactSet, path: Path) -> None:
    with path.open("w") as lines:
        for kind, numbers in (("ban", facts.banned), ("mute", facts.muted)):
            for number in numbers:
                fact = {"kind": kind, "user": user_id(number).decode(), "until": facts.until_ms}
                lines.write(json.dumps(fact) + "\n")
        for owned in facts.lists():
            owner = user_id(owned.owner).decode()
            if owned.kind is ListKind.WHITELIST:
                lines.write(json.dumps({"kind": "whitelist-switch", "user": owner, "on": True}) + "\n")
            listed = {"kind": LIST_WORDS[owned.kind], "owner": owner}
            lines.write(json.dumps(listed | {"members": [user_id(one).decode() for one in owned.members]}) + "\n")
            if owned.ending:
                ending = {"members": [user_id(one).decode() for one in owned.ending], "until": facts.until_ms}
                lines.write(json.dumps(listed | ending) + "\n")
