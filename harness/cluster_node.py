"""One server of a Redis or Valkey Cluster, and its description of the others. Used by `clusters`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.ports import LOOPBACK, free_port
from harness.servers import Flavor, RedisServer
from harness.tls import Certificate

_SERVER = ("--repl-diskless-sync-delay", "0", "--repl-diskless-sync", "yes", "--repl-backlog-size", "4mb")


class Seen(NamedTuple):
    """One node, as a line of `CLUSTER NODES` describes it."""

    id: str
    port: int
    flags: frozenset[str]
    master_id: str
    epoch: int
    is_linked: bool
    slots: tuple[tuple[int, int], ...]

    @property
    def is_master(self) -> bool:
        return "master" in self.flags

    def owns(self, slot: int) -> bool:
        return any(first <= slot <= last for first, last in self.slots)


class ClusterNode(RedisServer):
    """One server of a Cluster. It keeps its id, its slots and its role over a restart, in its directory."""

    def __init__(
        self,
        flavor: Flavor,
        directory: Path,
        extra: Sequence[str],
        node_timeout_ms: int,
        host: str = LOOPBACK,
        certificate: Certificate | None = None,
    ) -> None:
        """With a certificate it also has a TLS port, for clients that show this certificate, and the bus is encrypted."""
        self.bus_port, self.tls_port = free_port(), free_port()
        options = [
            *("--cluster-enabled", "yes"),
            *("--cluster-config-file", "nodes.conf"),
            *("--cluster-port", str(self.bus_port)),
            *("--cluster-node-timeout", str(node_timeout_ms)),
            *("--cluster-announce-ip", host),
        ]
        if certificate is not None:
            options += [
                *certificate.server_options(self.tls_port, asks_clients=True),
                "--tls-cluster",
                "yes",
                "--tls-replication",
                "yes",
            ]
        super().__init__(flavor, directory, free_port(), None, False, [*options, *_SERVER, *extra], {}, host)
        self.is_paused = False

    def launch(self) -> None:
        """Starts it, again with the role and the slots that its file holds. Without an append-only file it is empty."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._launch()

    def pause(self) -> None:
        """SIGSTOP: for the other nodes it is dead after the node timeout."""
        super().pause()
        self.is_paused = True

    def resume(self) -> None:
        super().resume()
        self.is_paused = False

    def kill(self) -> None:
        super().kill()
        self.is_paused = False

    @property
    def answers(self) -> bool:
        """Whether it runs, and is not stopped by SIGSTOP."""
        return self.is_running and not self.is_paused

    def ask(self, *words: str | int | bytes) -> Any:
        """`CLUSTER …`, with the raw reply."""
        return self.client.execute_command("CLUSTER", *words)

    @property
    def seen(self) -> list[Seen]:
        """Every node that it knows, itself included."""
        return [_seen(line) for line in self.ask("NODES").decode().splitlines()]

    @property
    def own(self) -> Seen:
        """Its own description."""
        return next(seen for seen in self.seen if "myself" in seen.flags)

    @property
    def state(self) -> dict[str, str]:
        """`CLUSTER INFO`."""
        lines = self.ask("INFO").decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


def _seen(line: str) -> Seen:
    its_id, address, flags, master_id, _, _, epoch, link, *slots = line.split()
    port = int(address.partition("@")[0].rpartition(":")[2])
    ranges = [part.partition("-") for part in slots if not part.startswith("[")]
    return Seen(
        id=its_id,
        port=port,
        flags=frozenset(flags.split(",")),
        master_id=master_id,
        epoch=int(epoch),
        is_linked=link == "connected",
        slots=tuple((int(first), int(last or first)) for first, _, last in ranges),
    )
