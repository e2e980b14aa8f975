"""Which requests have a line in the log, and what it says.

A line has no query string, which may carry a Token, and neither body nor headers, which carry secrets. Checks that were
answered with a Verdict have no line each, unless the deployment asks for a share of them: a router asks once a send, and
a line costs as much as several checks. The histogram in `/metrics` has all of them.
"""

from __future__ import annotations

from random import random

import structlog
from aiohttp import web

from gate.http.dependencies import Deps
from gate.http.peers import Origin

log = structlog.get_logger("gate.http")


def is_check_logged(deps: Deps) -> bool:
    """Whether this one of the checks that got a Verdict has a line."""
    options = deps.options
    return options.access_log and options.log_checks > 0 and random() < options.log_checks


def log_request(
    deps: Deps,
    group: str,
    method: str,
    path: str,
    status: int,
    seconds: float,
    origin: web.Request | Origin,
    request_id: str,
) -> None:
    """One line; `path` without the query string."""
    # Probes come every second or so for ever, and all the same.
    write = log.debug if group == "probe" else log.info
    write(
        "request",
        method=method[:16],
        path=path[:200],
        status=status,
        client=deps.address_of(origin),
        ms=round(seconds * 1_000, 2),
        request_id=request_id,
    )
