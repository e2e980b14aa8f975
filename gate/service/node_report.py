"""What this node reports of itself (`gate.store.node_reports`): read from its data directory when it is asked.

The replicator answers other nodes' commands with it; `gate status` reads it itself where Redis is away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

from gate.clock import monotonic_ms
from gate.errors import ReplicaError
from gate.replica.layout import BOARD_FILE
from gate.replica.status_page import StatusPage
from gate.service.heartbeats import Heartbeats
from gate.service.metrics_directory import counted_in
from gate.service.running import RUN_FOLDER, Running, running_services
from gate.store.address import parse_address
from gate.store.node_reports import NodeReport

RATE_OVER_S = 5.0
CHECKS, RESP_CONNECTIONS, WEBSOCKETS = "gate_checks_total", "gate_resp_connections", "gate_websockets"
"""As `gate.metrics` names them; not imported from there, since a replicator needs nothing else of it."""


class CheckRate:
    """Checks a second of this node, over the last 5 to 10 seconds."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._counts: deque[tuple[int, float]] = deque(maxlen=2)

    async def keep(self, every_s: float = RATE_OVER_S) -> None:
        """Count for ever."""
        while True:
            self._counts.append(self._now())
            await asyncio.sleep(every_s)

    def per_s(self) -> float | None:
        """None before the first count."""
        if not self._counts:
            return None
        (then_ms, before), (now_ms, total) = self._counts[0], self._now()
        seconds = (now_ms - then_ms) / 1_000
        return max(0.0, total - before) / seconds if seconds >= 1 else None

    def _now(self) -> tuple[int, float]:
        return monotonic_ms(), sum(counted_in(folder, CHECKS) for folder in _metrics_folders(self._data))


def node_report(data: Path, node: str, checks_per_s: float | None) -> NodeReport | None:
    """The services that run in this data directory, as one node; None if none runs."""
    services = running_services(data)
    if not services:
        return None
    folders = _metrics_folders(data)
    report = NodeReport(
        node=node,
        name=services[0].node_name,
        host=services[0].host,
        version=services[0].version,
        redis=_shown_redis(services),
        roles=tuple(dict.fromkeys(role for each in services for role in each.roles)),
        silent=tuple(name for each in services for name in _silent(data, each)),
        started_at_ms=min(each.started_at_ms for each in services),
        checks_per_s=checks_per_s,
        resp_connections=round(sum(counted_in(folder, RESP_CONNECTIONS) for folder in folders)),
        websockets=round(sum(counted_in(folder, WEBSOCKETS) for folder in folders)),
    )
    return _with_replica(report, data)


def _shown_redis(services: list[Running]) -> str:
    url = next((each.redis for each in services if each.redis), None)
    return parse_address(url).shown if url else "embedded"


def _silent(data: Path, running: Running) -> list[str]:
    try:
        return Heartbeats(data / RUN_FOLDER / running.roles[0] / "roles").silent(monotonic_ms())
    except FileNotFoundError:  # it starts
        return list(running.roles)


def _with_replica(report: NodeReport, data: Path) -> NodeReport:
    from msgspec.structs import replace

    try:
        board = StatusPage(data / "replica" / BOARD_FILE)
    except ReplicaError:
        return replace(report, state="none")
    try:
        view = board.view(monotonic_ms())
    finally:
        board.close()
    state = view.state.name.lower().replace("_", "-")
    ready = view.ready and not report.silent
    return replace(report, state=state, ready=ready, stale_ms=view.stale_ms, lag=view.lag)


def _metrics_folders(data: Path) -> list[Path]:
    return sorted((data / RUN_FOLDER).glob("*/metrics"))
