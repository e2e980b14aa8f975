"""`INFO [section …]`: this worker, in the sections and `name:value` lines that clients, HAProxy and exporters read.

Called by `commands`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence

from gate import __version__
from gate.clock import monotonic_ms
from gate.wire import replies
from gate.wire.client import Client, Worker
from gate.wire.handshake import SPEAKS_LIKE

Fields = dict[str, str | int]

# Words that stand for every section.
ALL = frozenset(["all", "default", "everything"])
# As long as Redis's own.
_NO_REPLICATION_ID = "0" * 40


def about(client: Client, arguments: Sequence[bytes]) -> bytes:
    """Every section, or those that are named; none of a name that there is not, as in Redis."""
    # Latin-1 takes any bytes: a name that can't be text names no section.
    wanted = {argument.decode("latin-1").lower() for argument in arguments}
    shown = [title for title in _SECTIONS if not wanted or wanted & ALL or title.lower() in wanted]
    texts = [_written(title, _SECTIONS[title](client.worker)) for title in shown]
    return replies.bulk("\r\n".join(texts).encode())


def _written(title: str, fields: Fields) -> str:
    return "".join(f"{line}\r\n" for line in (f"# {title}", *(f"{name}:{value}" for name, value in fields.items())))


def _server(worker: Worker) -> Fields:
    uptime_s = (monotonic_ms() - worker.started_at_ms) // 1000
    return {
        "redis_version": SPEAKS_LIKE,
        "redis_mode": "standalone",
        "gate_version": __version__,
        "os": platform.system(),
        "arch_bits": 64,
        "process_id": os.getpid(),
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86_400,
    }


def _stats(worker: Worker) -> Fields:
    checks = sum(worker.words.values())
    return {
        "total_connections_received": worker.connections_total,
        "gate_checks": checks,
        "gate_denied": checks - worker.words["allowed"],
        "gate_errors": worker.errors,
    }


def _replication(worker: Worker) -> Fields:
    """Every node answers checks and takes presence: to a client each is a primary without replicas."""
    return {
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": _NO_REPLICATION_ID,
        "master_repl_offset": 0,
    }


_SECTIONS: dict[str, Callable[[Worker], Fields]] = {
    "Server": _server,
    "Clients": lambda worker: {
        "connected_clients": worker.connections,
        "blocked_clients": worker.waiting_for_events,
    },
    "Persistence": lambda _: {"loading": 0, "async_loading": 0},
    "Stats": _stats,
    "Replication": _replication,
    "Cluster": lambda _: {"cluster_enabled": 0},
    "Keyspace": lambda _: {},
    "Replica": lambda worker: {"gate_replica_stale_ms": worker.age_ms()},
}
