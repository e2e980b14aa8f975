"""The listening server: started by the `http` role, drained on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from functools import partial

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gate.http.app import Mounted, Part, make_app
from gate.http.connection import ConnectionRunner
from gate.http.context import Deps
from gate.http.fast_path import FastPath
from gate.http.operators import OperatorAuth
from gate.http.options import BACKLOG, LINGER_S, MAX_LINE_BYTES
from gate.http.routing import MALFORMED
from gate.listening import dual_stack_socket
from gate.tls import TlsListener, bound_sockets

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

# Sockets that listen on the port. Each has a queue of its own, of `BACKLOG`, and the loop accepts one connection of each in a
# turn: with a single one, thousands of clients that come at once wait for TCP to retry, after 1 s, 3 s, 7 s.
LISTENERS = 4


class HttpServer:
    """A running server; `admin_port` is 0 where the paths for operators have no port of their own."""

    def __init__(self, runners: Sequence[ConnectionRunner], host: str, port: int, admin_port: int = 0) -> None:
        self._runners = runners
        self._tls: TlsListener | None = None
        self.host = host
        self.port = port
        self.admin_port = admin_port
        self.tls_port = 0

    def use_tls(self, context: ssl.SSLContext, host: str, port: int) -> None:
        """Serve TLS there; if it is served already, new connections get this context. `OSError` if the port can't be had."""
        if self._tls is not None:
            self._tls.context = context
            return
        server = self._runners[0].server  # of the public paths
        assert server is not None  # since the runner is set up
        listener = TlsListener(context, lambda _: server())
        listener.start(bound_sockets(host, port, reuse_port=True), BACKLOG)
        self._tls, self.tls_port = listener, listener.port

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, let requests in flight finish for up to `timeout_s`, close."""
        if self._tls is not None:
            self._tls.stop()
        await asyncio.gather(*(runner.drain(timeout_s) for runner in self._runners))


async def serve_http(
    deps: Deps, operator_auth: OperatorAuth | None = None, mounted: Sequence[Mounted] = ()
) -> HttpServer:
    """Listen on `deps.options.host` and `port` (0: a free one), and on `admin` if given. See `make_app`.

    `OSError` if one of them can't be had.
    """
    options = deps.options
    logging.getLogger("aiohttp.server").addFilter(_NEVER_QUOTED)  # once, however often it is added
    # It would print the subprotocols that a client offers, among which some put their Token, before anybody is let in.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    operator_auth = operator_auth or OperatorAuth()

    async def listening(part: Part, host: str, port: int, listeners: int) -> ConnectionRunner:
        # A traced check has a span, which only the application adds.
        fast_path = None if part == "admin" or deps.trace is not None else FastPath(deps)
        runner = _runner(deps, make_app(deps, operator_auth, mounted, part), fast_path)
        await runner.setup()
        try:
            await _listen(runner, host, port, listeners, options.reuse_port)
        except OSError:
            await runner.cleanup()
            raise
        return runner

    if options.admin is None:
        runners = [await listening("all", options.host, options.port, LISTENERS)]
        return HttpServer(runners, options.host, _port_of(runners[0]))
    admin = await listening("admin", *options.admin, 1)
    try:
        public = await listening("public", options.host, options.port, LISTENERS)
    except OSError:
        await admin.cleanup()
        raise
    return HttpServer([public, admin], options.host, _port_of(public), _port_of(admin))


def _runner(deps: Deps, app: web.Application, fast_path: FastPath | None) -> ConnectionRunner:
    # aiohttp's own access log would print query strings.
    return ConnectionRunner(
        app,
        access_log=None,
        keepalive_timeout=deps.options.idle_s,
        max_line_size=MAX_LINE_BYTES,
        lingering_time=LINGER_S,
        auto_decompress=False,
        fast_path=fast_path,
        on_malformed=partial(deps.count_request, MALFORMED, 400, 0.0),
    )


async def _listen(runner: ConnectionRunner, host: str, port: int, listeners: int, reuse_port: bool) -> None:
    for _ in range(listeners if reuse_port else 1):
        bound = dual_stack_socket(host, port, reuse_port=reuse_port)
        site: web.BaseSite = (
            web.SockSite(runner, bound, backlog=BACKLOG)
            if bound
            else web.TCPSite(runner, host, port, reuse_port=reuse_port or None, backlog=BACKLOG)
        )
        await site.start()
        port = _port_of(runner)


def _port_of(runner: ConnectionRunner) -> int:
    port: int = runner.addresses[0][1]
    return port
