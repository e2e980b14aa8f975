"""The deployment under test: nodes, each behind a cable of its own, and two servers, of which one is the truth.

The other one follows it as a replica, so that a demotion has somewhere to go. Every node keeps its data on a small disk and has
a clock that can be set; both servers share one.
"""

from __future__ import annotations

from pathlib import Path

import redis

from harness.cable import Cable
from harness.servers import RedisServer
from harness.waiting import NotInTime, wait_until
from loadtests.chaos.deployment import Deployment, Proxied
from loadtests.chaos.shims import Shim, SmallDisk

SERVER_DISK_BYTES = 96 << 20
SYNC_TIMEOUT_S = 4.0
REPLICA_BACK_TIMEOUT_S = 10.0


class Site(Deployment):
    """Nodes in front of one server that may move to the other one."""

    def __init__(self, directory: Path, nodes: int, proxied: Proxied | None = None) -> None:
        super().__init__(directory, proxied)
        self.shim = Shim(directory / "server-shim", self.library)
        self._disks: dict[int, SmallDisk] = {}
        self.primary, self.secondary = self._server("a"), self._server("b")
        for _ in range(nodes):
            cable = Cable(self.primary.port)
            self.add_node(cable.url, cable)
        self.backup = directory / "backup.rdb"

    def start(self) -> None:
        """As `Deployment`, once the secondary follows."""
        self.follow()
        super().start()

    @property
    def admin_url(self) -> str:
        return self.primary.url

    def disk_of(self, server: RedisServer) -> SmallDisk:
        return self._disks[server.port]

    def follow(self) -> None:
        """The secondary follows the primary and drops its own data."""
        self.secondary.client.replicaof("127.0.0.1", self.primary.port)

    def caught_up(self) -> bool:
        """Waits until the secondary has all of the primary's writes, and no write may be made meanwhile."""
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

    def close_servers(self) -> None:
        for server in (self.primary, self.secondary):
            server.kill()
            self.disk_of(server).close()

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
