"""Nodes in front of Sentinels (a primary, two replicas, three Sentinels) or of a cluster (three masters with a replica each).

Nodes find the servers as they do in production, so there is no cable in between. Servers that are to be cut off from each
other need a network namespace (`harness.partitions`); without one a partition is played by SIGSTOP.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.clusters import ClusterSetup
from harness.partitions import is_apart
from harness.sentinels import SentinelSetup
from harness.servers import Flavor
from loadtests.chaos.deployment import Deployment, Proxied

NODE_TIMEOUT_MS = 1_000


class SentinelSite(Deployment):
    """Behind Sentinels."""

    def __init__(
        self, directory: Path, nodes: int, durability: str, flavor: Flavor = "valkey-9", proxied: Proxied | None = None
    ) -> None:
        super().__init__(directory, proxied)
        self.setup = SentinelSetup.start(flavor, directory / "redis", are_apart=is_apart())
        for _ in range(nodes):
            self.add_node(self.setup.url, options=("--durability", durability))

    @property
    def admin_url(self) -> str:
        return self.setup.url

    def close_servers(self) -> None:
        self.setup.stop()


class ClusterSite(Deployment):
    """Behind a cluster."""

    def __init__(
        self, directory: Path, nodes: int, durability: str, flavor: Flavor = "valkey-9", proxied: Proxied | None = None
    ) -> None:
        super().__init__(directory, proxied)
        self.setup = ClusterSetup.start(
            flavor, directory / "redis", node_timeout_ms=NODE_TIMEOUT_MS, are_apart=is_apart()
        )
        for _ in range(nodes):
            self.add_node(self.setup.url, options=("--durability", durability))

    @property
    def admin_url(self) -> str:
        return self.setup.url

    def close_servers(self) -> None:
        self.setup.stop()


SITES: dict[str, Callable[[Path, int, str], Deployment]] = {"sentinel": SentinelSite, "cluster": ClusterSite}
