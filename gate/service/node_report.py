"""What this node reports of itself (`gate.store.node_reports`): read from its data directory when it is asked.

The replicator answers other nodes' commands with it; `gate status` reads it itself where Redis is away.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from gate.clock import monotonic_ms
from gate.errors import ReplicaError
from gate.replica.layout import BOARD_FILE
from gate.replica.status_page import StatusPage
from gate.service.heartbeats import Heartbeats
from gate.service.metrics_directory import counted_in
from gate.service.node_rates import Rates, metrics_folders
from gate.service.running import RUN_FOLDER, Running, running_services
from gate.store.address import parse_address
from gate.store.node_reports import NodeReport

# As `gate.metrics` names them; not imported from there, since a replicator needs nothing else of it.
RESP_CONNECTIONS, WEBSOCKETS = "gate_resp_connections", "gate_websockets"


def node_report(data: Path, node: str, rates: Rates | None) -> NodeReport | None:
    """The services that run in this data directory, as one node; None if none runs."""
    # A node's roles may be split over several services, as over containers; the report is of all of them.
    services = running_services(data)
    if not services:
        return None
    folders, disk = metrics_folders(data), shutil.disk_usage(data)
    report = NodeReport(
        node=node,
        name=services[0].node_name,
        host=services[0].host,
        version=services[0].version,
        redis=_shown_redis(services),
        roles=tuple(dict.fromkeys(role for each in services for role in each.roles)),
        silent=tuple(name for each in services for name in _silent(data, each)),
        started_at_ms=min(each.started_at_ms for each in services),
        **(rates._asdict() if rates else {}),
        disk_free_bytes=disk.free,
        disk_bytes=disk.total,
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


def lag_of(data: Path) -> tuple[int, int]:
    """Changes that are not applied, and the age of the facts in ms; zeros without a Replica."""
    report = _with_replica(NodeReport(node=""), data)
    return report.lag, report.stale_ms


def _with_replica(report: NodeReport, data: Path) -> NodeReport:
    from msgspec.structs import replace

    try:
        board = StatusPage(data / "replica" / BOARD_FILE)
    except ReplicaError:
        # No status page: the replicator has not made one yet, or the roles that need it do not run here.
        return replace(report, state="none")
    try:
        view = board.view(monotonic_ms())
    finally:
        board.close()
    state = view.state.name.lower().replace("_", "-")
    ready = view.ready and not report.silent
    return replace(report, state=state, ready=ready, stale_ms=view.stale_ms, lag=view.lag)
