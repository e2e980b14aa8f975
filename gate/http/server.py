"""The listening server: started by the `http` role, drained on SIGTERM."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gate.http.app import Mounted, make_app
from gate.http.connection import ConnectionRunner
from gate.http.dependencies import Deps
from gate.http.fast_path import FastPath
from gate.http.operators import OperatorAuth
from gate.http.options import BACKLOG, LINGER_S, MAX_LINE_BYTES
from gate.listening import dual_stack_socket

log = structlog.get_logger("gate.http")


class NeverQuoted(logging.Filter):
    """Keeps aiohttp from logging what is no HTTP: it quotes the line, credentials included, and calls it an error of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record may be logged as it is."""
        fault = record.exc_info[1] if record.exc_info else None
        if not isinstance(fault, HttpProcessingError):
            return True
        log.debug("what came is no HTTP", fault=type(fault).__name__)
        return False


_NEVER_QUOTED = NeverQuoted()

LISTENERS = 4
"""Sockets that listen on the port. Each has a queue of its own, of `BACKLOG`, and the loop accepts one connection of each in a
turn: with a single one, thousands of clients that come at once wait for TCP to retry, after 1 s, 3 s, 7 s."""


class HttpServer:
    """A running server."""

    def __init__(self, runner: ConnectionRunner, host: str, port: int) -> None:
        self._runner = runner
        self.host = host
        self.port = port

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, let requests in flight finish for up to `timeout_s`, close."""
        await self._runner.drain(timeout_s)


async def serve_http(
    deps: Deps, operator_auth: OperatorAuth | None = None, mounted: Sequence[Mounted] = ()
) -> HttpServer:
    """Listen on `deps.options.host` and `port` (0: a free one). `OSError` if it can't be had. See `make_app`."""
    options = deps.options
    logging.getLogger("aiohttp.server").addFilter(_NEVER_QUOTED)  # once, however often it is added
    # It would print the subprotocols that a client offers, among which some put their Token, before anybody is let in.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    # aiohttp's own access log would print query strings.
    runner = ConnectionRunner(
        make_app(deps, operator_auth, mounted),
        access_log=None,
        keepalive_timeout=options.idle_s,
        max_line_size=MAX_LINE_BYTES,
        lingering_time=LINGER_S,
        auto_decompress=False,
        fast_path=FastPath(deps),
    )
    await runner.setup()
    try:
        port = options.port
        for _ in range(LISTENERS if options.reuse_port else 1):
            bound = dual_stack_socket(options.host, port, reuse_port=options.reuse_port)
            site: web.BaseSite = (
                web.SockSite(runner, bound, backlog=BACKLOG)
                if bound
                else web.TCPSite(runner, options.host, port, reuse_port=options.reuse_port or None, backlog=BACKLOG)
            )
            await site.start()
            port = runner.addresses[0][1]
    except OSError:
        await runner.cleanup()
        raise
    return HttpServer(runner, options.host, port)
