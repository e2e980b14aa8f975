"""The nodes under test, with every kind of Redis: each has a small disk and a clock that can be set."""

from __future__ import annotations

import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.cable import Cable
from harness.ports import free_port
from harness.processes import family
from harness.service import GateService
from loadtests.chaos.clients import Target
from loadtests.chaos.shims import Shim, SmallDisk, build_library

NODE_DISK_BYTES = 48 << 20
LEASE_TTL_MS = 3_000
START_TIMEOUT_S = 60.0
Proxied = Callable[[int, Target], Target]
"""Puts something in front of a node: its number and ports, and the ports to ask instead."""


class SiteNode:
    """One node: its process, its disk, its clock, and the cable to its Redis where there is one."""

    def __init__(
        self,
        number: int,
        directory: Path,
        redis_url: str,
        library: Path | None,
        cable: Cable | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.number = number
        self.redis_url = redis_url
        self._cable = cable
        self._options = options
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
            *self._options,
            redis_url=self.redis_url,
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
    def cable(self) -> Cable:
        assert self._cable is not None
        return self._cable

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
        if self._cable is not None:
            self._cable.close()
        self.disk.close()


class Deployment(ABC):
    """All of it. `start` before the run, `close` behind it."""

    def __init__(self, directory: Path, proxied: Proxied | None = None) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._proxied = proxied
        self.library = build_library(directory)
        self.nodes: list[SiteNode] = []
        self.targets: list[Target] = []

    @property
    @abstractmethod
    def admin_url(self) -> str:
        """The Redis for the command line, past all cables."""

    def add_node(self, redis_url: str, cable: Cable | None = None, options: Sequence[str] = ()) -> None:
        """One more node, which is not started."""
        number = len(self.nodes)
        folder = self.directory / f"node-{number}"
        folder.mkdir()
        self.nodes.append(SiteNode(number, folder, redis_url, self.library, cable, options))

    def start(self) -> None:
        """The first node alone, since it makes the App that the others join."""
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

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        self.close_servers()
        shutil.rmtree(self.directory, ignore_errors=True)

    @abstractmethod
    def close_servers(self) -> None:
        """End every Redis server."""

    def _target(self, node: SiteNode) -> Target:
        return node.target if self._proxied is None else self._proxied(node.number, node.target)
