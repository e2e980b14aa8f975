"""What `gate serve` prints when all of it answers: one line for scripts, and at its first start what a newcomer looks for.

The ready line comes first on stdout at every start, so that a script need not know which start it is.
"""

from __future__ import annotations

import os

from gate import __version__
from gate.config import ServeConfig
from gate.core.shown import shown_text
from gate.listening import near
from gate.option_values import Endpoint
from gate.service.credentials import Credentials
from gate.service.directory_layout import DirectoryLayout
from gate.service.ports import Ports


def ready_line(ports: Ports, credentials: Credentials | None) -> str:
    """Names only what runs here: with `--role` a service may have no HTTP, no RESP port, or no App of its own."""
    http, admin, resp, resp_tls, http_tls = (
        held and held.endpoint for held in (ports.http, ports.admin, ports.resp, ports.resp_tls, ports.http_tls)
    )
    parts = {"http": http, "resp": resp, "app": credentials and credentials.app_key}
    parts |= {"admin": admin, "resp-tls": resp_tls, "http-tls": http_tls}
    return " ".join(["gate ready", *(f"{name}={value}" for name, value in parts.items() if value)])


def log_checks() -> None:
    """Say whether the compiled core answers checks, and else why not. After the ready line: asking takes some milliseconds."""
    from structlog import get_logger  # late: needed once in a service's life

    from gate.replica.native_core import state

    compiled, why_not = state()
    answered_by = {"by": "the compiled core"} if compiled else {"by": "Python, slower", "compiled_core": why_not}
    get_logger().info("checks are answered", **answered_by)


def first_words(
    config: ServeConfig,
    layout: DirectoryLayout,
    http: Endpoint | None,
    credentials: Credentials | None,
    admin: Endpoint | None = None,
) -> str:
    """Lines for a first start: where the console and the credentials are, and how to stop."""
    from gate.store.address import parse_address  # late: needed once in a service's life

    redis = parse_address(config.redis).shown if config.redis else f"embedded, in {layout.redis}"
    rows = {"version": __version__}
    pages = admin or http
    if pages:
        # `--public-url` is where the other port is reached.
        base = (not admin and config.public_url) or f"http://{Endpoint(near(pages.host), pages.port)}"
        who = f", sign in as {credentials.operator}" if credentials and credentials.operator_password else ""
        rows["console"] = f"{base}/console/{who}"
    if credentials:
        rows["credentials"] = f"{layout.credentials} (the App's key and secret, the operator's password)"
    rows["Redis"] = redis
    rows["stop"] = f"Ctrl-C, or kill {os.getpid()}"
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {shown_text(text)}" for name, text in rows.items())
