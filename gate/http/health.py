"""`/healthz`, `/readyz`, `/metrics`: for probes and scrapers; no credentials, no secrets, no Redis.

Every HTTP process answers them from pages in memory, and the supervisor on `--health` (`gate.service.health`).
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gate.http.context import Deps
from gate.http.responses import json_response
from gate.readiness import METRICS_TYPE, RETRY_AFTER_S, readiness

Probe = Callable[[Deps], web.Response]


def healthz(deps: Deps) -> web.Response:
    """The process is alive and its loop turns."""
    return json_response({"status": "ok"})


def readyz(deps: Deps) -> web.Response:
    """Whether this node should get traffic."""
    status, body = readiness(deps.roles_missing(), deps.warnings, lambda: deps.replica.view())
    return json_response(body, status, {} if status == 200 else {"Retry-After": str(RETRY_AFTER_S)})


def metrics(deps: Deps) -> web.Response:
    """The Prometheus exposition of the whole service."""
    return web.Response(body=deps.metrics_text(), headers={"Content-Type": METRICS_TYPE})


ASIDE = frozenset({"/metrics"})
"""Served in a thread, one at a time: adding up the counts of all processes must not hold up `/healthz`."""
OF_MONITORING = frozenset({"/metrics"})
"""Served with the paths for operators, where these have a port of their own."""
PROBES: dict[str, Probe] = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}
