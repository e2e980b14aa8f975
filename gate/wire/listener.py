"""A hot worker's server: the listening sockets, their connections, and the graceful shutdown.

A worker's process runs `serve_wire`. Several workers listen on one TCP port with `SO_REUSEPORT` (the kernel distributes the
connections). A unix socket can't be shared that way, so the process that starts the workers binds it once and passes the
listening descriptor (`unix_fd`) to each. A TLS port is served next to the plain one, with a transport of its own. Every
`TICK_S` the listener checks connections with a deadline, and exports the counts.
"""

from __future__ import annotations

import asyncio
import resource
import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gate.clock import monotonic_ms
from gate.listening import dual_stack_socket
from gate.replica.native_core import trusted_core
from gate.replica.reading import DEFAULT_CACHED_USERS, Reading
from gate.tls import TlsListener, bound_sockets
from gate.wire.client import Worker
from gate.wire.connection import STALL_LIMIT_MS, Connection
from gate.wire.resp import LONE_BYTES
from gate.wire.slots import AUTH_WITHIN_MS, Slots
from gate.wire.turns import SLICE_US, TURN_BYTES

# Connections the kernel may hold while the worker decides: a router fleet reconnecting at once.
BACKLOG = 4_096
TICK_S = 1.0
# For so long a worker that drains goes on as before: what was sent to it before it stopped listening has arrived by then.
DRAIN_GRACE_S = 0.05
# Of the process's file limit, or half of it where that is less, kept for LMDB, logs and the loop itself.
SPARE_DESCRIPTORS = 64
# Connections where the process has no file limit: more than a worker's memory carries.
UNLIMITED = 1 << 20


@dataclass(frozen=True, slots=True)
class WireOptions:
    """How one hot worker serves. `port` 0 takes a free one; `max_staleness_ms` 0 means no limit."""

    replica_dir: Path
    host: str = "127.0.0.1"
    port: int = 6390
    unix_path: str | None = None
    unix_fd: int | None = None
    max_staleness_ms: int = 0
    on_stale: Literal["serve", "refuse"] = "serve"
    reuse_port: bool = True
    max_connections: int | None = None
    cached_users: int = DEFAULT_CACHED_USERS
    stall_limit_ms: int = STALL_LIMIT_MS
    auth_within_ms: int = AUTH_WITHIN_MS
    tick_s: float = TICK_S
    on_counts: Callable[[Worker], None] | None = None
    time_bounds_us: tuple[int, ...] = ()
    """Of the times of checks that the worker counts (`Worker.take_times`), ascending."""


class WireServer:
    """A running hot worker."""

    def __init__(self, worker: Worker, options: WireOptions, max_connections: int) -> None:
        self.worker = worker
        self._options = options
        self._slots = Slots(max_connections, options.auth_within_ms)
        self.connections: set[Connection] = set()
        self.stalling: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._tick: asyncio.TimerHandle | None = None
        self._bound_unix: Path | None = None
        self._tls: TlsListener | None = None
        self.port = self.tls_port = 0

    def make(self) -> Connection:
        """A connection for a peer that the loop accepted."""
        return Connection(self.worker, self)

    def opened(self, connection: Connection) -> bool:
        """Count it in; False if there are too many."""
        self.connections.add(connection)
        self._all_closed.clear()
        # Also one that is refused next: its end is counted as well.
        self.worker.connections += 1
        self.worker.connections_total += 1
        if connection.handshake is not None:
            return self._slots.pass_on(connection.handshake, connection)
        return self._slots.take(connection, monotonic_ms())

    def closed(self, connection: Connection) -> None:
        """Count it out."""
        self.connections.discard(connection)
        self.stalling.discard(connection)
        self._slots.free(connection)
        self.worker.connections -= 1
        if not self.connections:
            self._all_closed.set()

    def stalls(self, connection: Connection) -> None:
        """Look at it on every tick until it owes nothing."""
        self.stalling.add(connection)
        # Its time begins now, not with the next tick.
        connection.stalled_ms(monotonic_ms())

    def stands(self, connection: Connection) -> None:
        """It got an App, or has none any more."""
        self._slots.stands(connection, monotonic_ms())

    async def start(self) -> None:
        """Listen. `OSError` says why that can't be."""
        loop = asyncio.get_running_loop()
        options = self._options
        # Before the first peer: a connection looks for the poll once, when it is made.
        self._poll(loop)
        bound = dual_stack_socket(options.host, options.port, reuse_port=options.reuse_port)
        server = await (
            loop.create_server(self.make, sock=bound, backlog=BACKLOG)
            if bound
            else loop.create_server(
                self.make, options.host, options.port, reuse_port=options.reuse_port, backlog=BACKLOG
            )
        )
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]
        for listening in server.sockets:
            # Accepted sockets inherit it: a peer that vanished without a word gives its slot back.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if options.unix_fd is not None:
            # Bound by the parent: workers can't share a path as they share a port.
            handed = socket.socket(fileno=options.unix_fd)
            self._servers.append(await loop.create_unix_server(self.make, sock=handed, backlog=BACKLOG))
        elif options.unix_path:
            self._servers.append(await loop.create_unix_server(self.make, options.unix_path, backlog=BACKLOG))
            self._bound_unix = Path(options.unix_path)
        self._ticked()

    def use_tls(self, context: ssl.SSLContext, host: str, port: int) -> None:
        """Serve TLS there; if it is served already, new connections get this context. `OSError` if the port can't be had."""
        if self._tls is not None:
            # Open connections keep the context of their handshake.
            self._tls.context = context
            return
        listener = TlsListener(
            context,
            lambda handshake: Connection(self.worker, self, handshake),
            lambda handshake: self._slots.take(handshake, monotonic_ms()),
            self._slots.free,
        )
        listener.start(bound_sockets(host, port, reuse_port=self._options.reuse_port), BACKLOG)
        self._tls, self.tls_port = listener, listener.port

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the core read the sockets, where it can."""
        core, worker = trusted_core(), self.worker
        if core is None or not hasattr(select, "epoll"):
            return
        limited = bool(worker.max_staleness_ms)
        bounds_us = self._options.time_bounds_us
        sockets = core.Sockets(worker.look, limited, worker.turns, TURN_BYTES, LONE_BYTES, SLICE_US, bounds_us)
        worker.sockets = sockets
        loop.add_reader(sockets.fileno(), sockets.serve)

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, answer what was received, close; cut what is left after `timeout_s`."""
        if self._tick is not None:
            self._tick.cancel()
        self.stop_listening()
        # GATE.CONNECT is refused from here on; checks go on for the grace.
        self.worker.draining = True
        await asyncio.sleep(min(DRAIN_GRACE_S, timeout_s))
        for connection in list(self.connections):
            connection.drain()
        try:
            await asyncio.wait_for(self._all_closed.wait(), timeout_s)
        except TimeoutError:
            for connection in list(self.connections):
                connection.abort()
            await self._all_closed.wait()
        self._report()
        self.close_worker()

    def close_worker(self) -> None:
        """Give back what the worker holds."""
        # The poll first: it reads facts through the Reading that is closed next.
        sockets, self.worker.sockets = self.worker.sockets, None
        if sockets is not None:
            asyncio.get_running_loop().remove_reader(sockets.fileno())
            sockets.close()
        self.worker.close()

    def stop_listening(self) -> None:
        """Refuse new connections; a unix socket that this server bound itself goes with it."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._tls is not None:
            self._tls.stop()
        if self._bound_unix is not None:
            self._bound_unix.unlink(missing_ok=True)
            self._bound_unix = None

    def _ticked(self) -> None:
        now_ms = monotonic_ms()
        # A copy: one that is cut leaves the set.
        for connection in list(self.stalling):
            stalled_ms = connection.stalled_ms(now_ms)
            if not stalled_ms:
                self.stalling.discard(connection)
            elif stalled_ms > self._options.stall_limit_ms:
                connection.abort()
        self._slots.close_late_ones(now_ms)
        self._report()
        self._tick = asyncio.get_running_loop().call_later(self._options.tick_s, self._ticked)

    def _report(self) -> None:
        if self._options.on_counts is not None:
            self._options.on_counts(self.worker)


async def serve_wire(options: WireOptions) -> WireServer:
    """Open the Replica and listen. Raises `ReplicaMissing` before the first snapshot, `OSError` if the port is taken."""
    reading = Reading(options.replica_dir, options.cached_users)
    worker = Worker(
        reading,
        # To `serve` is to have no limit; the age is shown all the same.
        max_staleness_ms=options.max_staleness_ms if options.on_stale == "refuse" else 0,
        time_bounds_us=options.time_bounds_us,
    )
    server = WireServer(worker, options, options.max_connections or _descriptors())
    try:
        await server.start()
    except OSError:
        server.stop_listening()
        server.close_worker()
        raise
    return server


def _descriptors() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED if limit == resource.RLIM_INFINITY else max(limit // 2, limit - SPARE_DESCRIPTORS)
