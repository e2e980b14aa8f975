"""The deployment under test: nodes, each behind a cable of its own, and two servers, of which one is the truth.

The other one follows it as a replica, so that a demotion has somewhere to go. Every node keeps its data on a small disk and has
a clock that can be set; both servers share one.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import redis

from loadtests.chaos.clients import Target
from loadtests.chaos.shims import Shim, SmallDisk, build_library
from tests.harness.cable import Cable
from tests.harness.ports import free_port
from tests.harness.processes import family
from tests.harness.servers import RedisServer
from tests.harness.service import GateService
from tests.harness.waiting import NotInTime, wait_until

NODE_DISK_BYTES = 48 << 20
SERVER_DISK_BYTES = 96 << 20
LEASE_TTL_MS = 3_000
START_TIMEOUT_S = 60.0
SYNC_TIMEOUT_S = 4.0
REPLICA_BACK_TIMEOUT_S = 10.0
Proxied = Callable[[int, Target], Target]
"""Puts something in front of a node: its number and ports, and the ports to ask instead."""


class SiteNode:
    """One node: its process, its disk, its clock and its cable."""

    def __init__(self, number: int, directory: Path, cable: Cable, library: Path | None) -> None:
        self.number = number
        self.cable = cable
        self.disk = SmallDisk(directory / "disk", NODE_DISK_BYTES)
        self.data = self.disk.folder
        self.shim = Shim(directory / "shim", library)
        self._ports = (free_port(), free_port())
        self.service: GateService | None = None
        self.is_wanted = True
        """Whether it should run: a fault that ends it takes this back until it is over."""
        self.starts = 0
        self.exits = 0

    def launch(self) -> None:
        """Start it, on the ports that it had before."""
        self.starts += 1
        self.service = GateService.start(
            self.data,
            *("--lease-ttl-ms", str(LEASE_TTL_MS)),
            redis_url=self.cable.url,
            http_port=self._ports[0],
            resp_port=self._ports[1],
            env={**self.shim.env, "GATE_LOG_LEVEL": "warning"},
            wait=False,
        )

    @property
    def running(self) -> GateService:
        assert self.service is not None
        return self.service

    @property
    def target(self) -> Target:
        credentials = self.running.credentials
        return Target(*self._ports, credentials.app_key, credentials.app_secret)

    def pids(self, role: str | None = None) -> list[int]:
        """Of its processes; of one role's only, if it is named."""
        if self.service is None or not self.service.is_running:
            return []
        mark = f"gate.service.role {role} "
        return [one.pid for one in family(self.service.pid) if role is None or mark in f"{one.command} "]

    def signal(self, number: signal.Signals, role: str | None = None) -> None:
        for pid in self.pids(role):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        self.is_wanted = False
        self.running.kill_all()

    def facts_file(self) -> Path:
        folder = self.data / "replica"
        return folder / (folder / "current").read_text().strip()

    def close(self) -> None:
        if self.service is not None:
            self.signal(signal.SIGCONT)
            self.running.kill_all()
        self.cable.close()
        self.disk.close()


class Site:
    """All of it. `start` before the run, `close` behind it."""

    def __init__(self, directory: Path, nodes: int, proxied: Proxied | None = None) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._proxied = proxied
        library = build_library(directory)
        self.shim = Shim(directory / "server-shim", library)
        self._disks: dict[int, SmallDisk] = {}
        self.primary, self.secondary = self._server("a"), self._server("b")
        self.nodes: list[SiteNode] = []
        for number in range(nodes):
            (directory / f"node-{number}").mkdir()
            self.nodes.append(SiteNode(number, directory / f"node-{number}", Cable(self.primary.port), library))
        self.targets: list[Target] = []
        self.backup = directory / "backup.rdb"

    def start(self) -> None:
        """The first node alone, since it makes the App that the others join."""
        self.follow()
        self.nodes[0].launch()
        self.nodes[0].running.wait_ready(START_TIMEOUT_S)
        for node in self.nodes[1:]:
            node.launch()
        for node in self.nodes[1:]:
            node.running.wait_ready(START_TIMEOUT_S)
        self.targets = [self._target(node) for node in self.nodes]

    def keep_running(self) -> list[SiteNode]:
        """Start again what ended and should run; those nodes."""
        ended = [node for node in self.nodes if node.is_wanted and not node.running.is_running]
        for node in ended:
            node.exits += 1
            node.launch()
        return ended

    def disk_of(self, server: RedisServer) -> SmallDisk:
        return self._disks[server.port]

    def follow(self) -> None:
        """The secondary follows the primary; what it had is gone."""
        self.secondary.client.replicaof("127.0.0.1", self.primary.port)

    def caught_up(self) -> bool:
        """Waits until the secondary has all of the primary's writes, which nobody may make meanwhile."""
        try:
            wait_until(self._is_level, SYNC_TIMEOUT_S, "")
        except (NotInTime, redis.RedisError):
            return False
        return True

    def swap(self) -> None:
        """The secondary takes over, the primary follows it."""
        self.secondary.client.replicaof("NO", "ONE")
        self.primary.client.replicaof("127.0.0.1", self.secondary.port)
        self.primary, self.secondary = self.secondary, self.primary

    def point_cables(self, keep_every: int | None) -> None:
        """New connections go to the primary. `keep_every` n: each nth that is open is cut; None: none is."""
        for node in self.nodes:
            node.cable.point_to(self.primary.port)
            if keep_every is not None:
                node.cable.cut_every(keep_every)

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        for server in (self.primary, self.secondary):
            server.kill()
            self.disk_of(server).close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _server(self, name: str) -> RedisServer:
        disk = SmallDisk(self.directory / f"server-{name}", SERVER_DISK_BYTES)
        extra = ["--appendfsync", "always", "--auto-aof-rewrite-min-size", "16mb", "--repl-diskless-sync-delay", "0"]
        server = RedisServer.start("valkey-9", disk.folder / "data", aof=True, extra=extra, env=self.shim.env)
        self._disks[server.port] = disk
        return server

    def _is_level(self) -> bool:
        there = self.secondary.client.info("replication")
        here = self.primary.client.info("replication")
        is_linked = there.get("master_link_status") == "up" and there.get("master_sync_in_progress") == 0
        return is_linked and there["slave_repl_offset"] == here["master_repl_offset"]

    def _target(self, node: SiteNode) -> Target:
        return node.target if self._proxied is None else self._proxied(node.number, node.target)


def wait_for_server(server: RedisServer, within_s: float = REPLICA_BACK_TIMEOUT_S) -> bool:
    """Whether it answers in time."""

    def answers() -> bool:
        try:
            return bool(server.client.ping())
        except redis.RedisError:
            return False

    try:
        return wait_until(answers, within_s, "")
    except NotInTime:
        return False
