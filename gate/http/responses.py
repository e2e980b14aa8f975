"""Responses as bytes, labelled with the request's id; and which requests have a line in the log, and what it says.

A line has no query string, which may carry a Token, and neither body nor headers, which carry secrets. The path is that of the
route, with `{user}` for an id; any other path is `unknown`. `client` is the address that the proxies name, `peer` that of the
connection. Checks that were
answered with a Verdict have no line each, unless the deployment asks for a share of them: a router asks once a send, and
a line costs as much as several checks. The histogram in `/metrics` has all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from random import random

import msgspec
import structlog
from aiohttp import web

from gate.http.context import Deps
from gate.http.peers import Origin

JSON_TYPE = "application/json;charset=UTF-8"
REQUEST_ID = "X-Request-Id"

_REQUEST_ID = re.compile(r"[!-~]{1,64}")
"""What is echoed: RongCloud's SDKs send 32 or 36 characters; anything unprintable or longer gets an id of our own."""


def json_response(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """One JSON answer."""
    labels = {"Content-Type": JSON_TYPE}
    if headers:
        labels.update(headers)
    return web.Response(body=msgspec.json.encode(body), status=status, headers=labels)


def request_id_of(headers: Mapping[str, str]) -> str:
    """The caller's own id where it is fit to echo, else 32 hex digits."""
    given = headers.get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


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
    who: Mapping[str, str],
) -> None:
    """One line; `path` is the template of the route, `who` was authenticated."""
    # Probes come every second or so for ever, and all the same.
    write = log.debug if group == "probe" else log.info
    write(
        "request",
        method=method[:16],
        path=path,
        status=status,
        **who,
        client=deps.address_of(origin),
        peer=origin.remote or "",
        ms=round(seconds * 1_000, 2),
        request_id=request_id,
    )
