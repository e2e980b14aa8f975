"""The HTTP process: RongCloud's user API, /v1, the console, probes and metrics.

Slow admin work here can't touch a check on the RESP port.

It listens at once, before Redis or the Replica are there: probes say what is missing, checks go on while Redis is away.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from gate.clock import monotonic_ms
from gate.console.site import Console
from gate.errors import CannotStart, ReplicaMissing
from gate.http.operators import OperatorDoor
from gate.http.options import HttpOptions
from gate.http.ports import Deps
from gate.http.replica_later import AdmittingReplica, ReplicaLater
from gate.http.server import HttpServer, serve_http
from gate.metrics import (
    CHECKS,
    HTTP_REQUESTS,
    HTTP_SECONDS,
    WEBSOCKET_MESSAGES,
    WEBSOCKETS,
    WEBSOCKETS_CLOSED,
    WRITE_ACK_MS,
    WRITE_APPLIED,
    BoardFigures,
    render_metrics,
)
from gate.replica.board import Board
from gate.replica.layout import BOARD_FILE
from gate.replica.reader import NodeReplica
from gate.service.role import Post
from gate.service.roles.http_presence import HttpPresence, most_websockets
from gate.service.stores import AcknowledgerLater, StoreLater, connected_store
from gate.store.acks import Acknowledger
from gate.store.store import Store

GC_THRESHOLDS = (50_000, 20, 100)
"""As for hot workers: thousands of WebSockets are a million objects, which Python's default looks through over and over."""


async def main(post: Post) -> None:
    """Serve until told to stop, then drain."""
    gc.set_threshold(*GC_THRESHOLDS)
    store, acks = StoreLater(), AcknowledgerLater()
    replica = ReplicaLater(lambda: _open_replica(post))
    presence = HttpPresence(post, replica)
    server = await _served(post, store, acks, replica, presence)
    if post.order.is_restart:
        post.ready()
    connecting = asyncio.create_task(_connect(post, store, acks))
    stopping = asyncio.ensure_future(post.stopping.wait())
    try:
        await asyncio.wait([connecting, stopping], return_when=asyncio.FIRST_COMPLETED)
        connected = await connecting
        if connected is None:
            return
        post.ready()
        gc.freeze()  # what was imported stays for good
        # A bug in what keeps WebSockets' Sessions ends the role, which is restarted and counted.
        await _stopped_or_failed(stopping, presence.gateway.failed)
    finally:
        stopping.cancel()
        gc.disable()  # it would look through what thousands of WebSockets leave, which goes with the process anyway
        await server.drain(post.drain_s)
        await presence.aclose()
    await connected[1].aclose()
    await connected[0].aclose()


async def _stopped_or_failed(stopping: asyncio.Future[Any], failed: asyncio.Future[None]) -> None:
    waited: list[asyncio.Future[Any]] = [stopping, failed]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if failed.done():
        failed.result()


async def _connect(post: Post, store: StoreLater, acks: AcknowledgerLater) -> tuple[Store, Acknowledger] | None:
    connected = await connected_store(post)
    if connected is None:
        return None
    acknowledger = Acknowledger(connected, post.order.node_id)
    await acknowledger.start()
    store.connect(connected)
    acks.connect(acknowledger)
    return connected, acknowledger


async def _served(
    post: Post, store: StoreLater, acks: AcknowledgerLater, replica: ReplicaLater, presence: HttpPresence
) -> HttpServer:
    config, endpoint = post.config, post.order.http
    assert endpoint is not None
    board = _BoardLook(post)
    deps = Deps(
        replica=replica,
        store=store,
        acks=acks,
        presence=presence.store,
        feeds=presence.tails,
        pinging=presence.pinging,
        gateway=presence.gateway,
        options=HttpOptions(
            host=endpoint.host,
            port=endpoint.port,
            reuse_port=True,
            max_staleness_ms=config.max_staleness_ms,
            on_stale=config.on_stale,
            ack_timeout_ms=config.ack_timeout_ms,
            max_websockets=most_websockets(),
            idle_s=config.http_idle_timeout,
            public_url=config.public_url or "",
            trusted_proxies=tuple(map(ip_network, config.trusted_proxies)),
        ),
        roles_missing=_Missing(post),
        warnings=lambda: post.board.warnings(monotonic_ms()),
        metrics_text=lambda: render_metrics(board, lambda: post.board.answering(monotonic_ms())),
        count_request=_count_request,
        count_applied=_count_applied,
        count_verdicts=_count_verdicts,
        count_websocket=_count_websocket,
    )
    try:
        door = OperatorDoor()
        return await serve_http(deps, door, [Console(door)])
    except OSError as fault:
        raise CannotStart(f"can't listen on {endpoint}: {fault.strerror}") from None


def _open_replica(post: Post) -> AdmittingReplica:
    return NodeReplica.open(post.places.replica)


class _Missing:
    """Names the processes that do not answer. Once all have, the embedded server's absence counts no more than Redis's."""

    def __init__(self, post: Post) -> None:
        self._board = post.board
        self._were_all_here = post.order.is_restart

    def __call__(self) -> list[str]:
        silent = self._board.silent(monotonic_ms())
        self._were_all_here = self._were_all_here or not silent
        counting = [name for name in silent if name != "redis"] if self._were_all_here else silent
        return [self._board.explained(name) for name in counting]


class _BoardLook:
    """Reads the replicator's board for a scrape, once there is one."""

    def __init__(self, post: Post) -> None:
        self._path = post.places.replica / BOARD_FILE
        self._board: Board | None = None

    def __call__(self) -> BoardFigures | None:
        if self._board is None:
            try:
                self._board = Board(self._path)
            except ReplicaMissing:
                return None
        return self._board.view(monotonic_ms())


def _count_request(group: str, status: int, seconds: float) -> None:
    HTTP_REQUESTS.labels(group, str(status)).inc()
    HTTP_SECONDS.labels(group).observe(seconds)


def _count_applied(applied: str, waited_ms: float) -> None:
    WRITE_APPLIED.labels(applied).inc()
    WRITE_ACK_MS.observe(waited_ms)


def _count_websocket(what: str, word: str) -> None:
    if what == "message":
        WEBSOCKET_MESSAGES.labels(word).inc()
    elif what == "opened":
        WEBSOCKETS.inc()
    else:
        WEBSOCKETS.dec()
        WEBSOCKETS_CLOSED.labels(word).inc()


def _count_verdicts(words: Mapping[str, int]) -> None:
    for word, many in words.items():
        CHECKS.labels(word).inc(many)
