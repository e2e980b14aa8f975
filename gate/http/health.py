"""`/healthz`, `/readyz`, `/metrics`: for probes and scrapers; no credentials, no secrets, no Redis.

`/readyz` turns 200 once this node's Replica has caught up with the heads it saw at start and every role answers; its
503 says what is missing. It does not turn back because Redis is away: checks go on then, and a balancer should let
them. A 200 may list `warnings`: what is wrong and no reason to send traffic elsewhere, such as clocks that differ.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gate.errors import ReplicaError
from gate.http.ports import Deps
from gate.http.replies import json_reply

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Probe = Callable[[Deps], web.Response]


def healthz(deps: Deps) -> web.Response:
    """The process is alive and its loop turns."""
    return json_reply({"status": "ok"})


def readyz(deps: Deps) -> web.Response:
    """Whether this node should get traffic."""
    missing = deps.roles_missing()
    try:
        board = deps.replica.board()
        stale_ms: int | None = board.stale_ms
        if not board.ready:
            missing = [f"replica: {board.why_not_ready}", *missing]
    except ReplicaError as fault:
        stale_ms = None
        missing = [f"replica: {fault}", *missing]
    if missing:
        return json_reply({"ready": False, "missing": missing}, 503, {"Retry-After": "1"})
    warnings = deps.warnings()
    return json_reply({"ready": True, "stale_ms": stale_ms, **({"warnings": warnings} if warnings else {})})


def metrics(deps: Deps) -> web.Response:
    """The Prometheus exposition of the whole service."""
    return web.Response(body=deps.metrics_text(), headers={"Content-Type": METRICS_TYPE})


ASIDE = frozenset({"/metrics"})
"""Served in a thread, one at a time: adding up the counts of all processes must not hold up `/healthz`."""
PROBES: dict[str, Probe] = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}
