"""The HTTP process: RongCloud's user API, /v1, probes and metrics. Slow admin work here can't touch a check on the RESP port.

It listens at once, before Redis or the Replica are there: probes say what is missing, checks go on while Redis is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gate.clock import monotonic_ms
from gate.errors import CannotStart
from gate.http.options import HttpOptions
from gate.http.ports import Deps, Replica
from gate.http.replica_later import ReplicaLater
from gate.http.server import HttpServer, serve_http
from gate.metrics import (
    CHECKS,
    HTTP_REQUESTS,
    HTTP_SECONDS,
    WRITE_ACK_MS,
    WRITE_APPLIED,
    BoardFigures,
    render_metrics,
)
from gate.presence.tails import Tails
from gate.replica.board import Board
from gate.replica.reader import NodeReplica, open_board
from gate.service.role import Post
from gate.service.stores import AcknowledgerLater, StoreLater, connected_store
from gate.store.acks import Acknowledger
from gate.store.address import parse_address
from gate.store.client import Client
from gate.store.presence import PresenceStore
from gate.store.store import CONNECT_MS, DEADLINE_MS, Store


async def main(post: Post) -> None:
    """Serve until told to stop, then drain."""
    store, acks = StoreLater(), AcknowledgerLater()
    # It connects when it is first used, and again whenever it must: Presence needs nothing of the start.
    client = Client(parse_address(post.config.presence_redis or post.order.redis_url), DEADLINE_MS, CONNECT_MS)
    tails = Tails(client)
    server = await _served(post, store, acks, PresenceStore(client), tails)
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
        await stopping
    finally:
        stopping.cancel()
        await server.drain(post.drain_s)
        await tails.aclose()
        await client.aclose()
    await connected[1].aclose()
    await connected[0].aclose()


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
    post: Post, store: StoreLater, acks: AcknowledgerLater, presence: PresenceStore, tails: Tails
) -> HttpServer:
    config, endpoint = post.config, post.order.http
    assert endpoint is not None
    board = _BoardLook(post)
    replica = ReplicaLater(lambda: _open_replica(post))
    deps = Deps(
        replica=replica,
        store=store,
        acks=acks,
        presence=presence,
        feeds=tails,
        options=HttpOptions(
            host=endpoint.host,
            port=endpoint.port,
            reuse_port=True,
            max_staleness_ms=config.max_staleness_ms,
            on_stale=config.on_stale,
            ack_timeout_ms=config.ack_timeout_ms,
        ),
        roles_missing=_Missing(post),
        metrics_text=lambda: render_metrics(board, lambda: post.board.answering(monotonic_ms())),
        count_request=_count_request,
        count_applied=_count_applied,
        count_verdicts=_count_verdicts,
    )
    try:
        return await serve_http(deps)
    except OSError as fault:
        raise CannotStart(f"can't listen on {endpoint}: {fault.strerror}") from None


def _open_replica(post: Post) -> Replica:
    return NodeReplica.open(post.places.replica)


class _Missing:
    """Names the processes that do not answer. Once all have, the embedded server's absence counts no more than Redis's."""

    def __init__(self, post: Post) -> None:
        self._board = post.board
        self._were_all_here = post.order.is_restart

    def __call__(self) -> list[str]:
        silent = self._board.silent(monotonic_ms())
        self._were_all_here = self._were_all_here or not silent
        return [name for name in silent if name != "redis"] if self._were_all_here else silent


class _BoardLook:
    """Reads the replicator's board for a scrape, once there is one."""

    def __init__(self, post: Post) -> None:
        self._directory = post.places.replica
        self._board: Board | None = None

    def __call__(self) -> BoardFigures | None:
        if self._board is None:
            self._board = open_board(self._directory)
        return None if self._board is None else self._board.view(monotonic_ms())


def _count_request(group: str, status: int, seconds: float) -> None:
    HTTP_REQUESTS.labels(group, str(status)).inc()
    HTTP_SECONDS.labels(group).observe(seconds)


def _count_applied(applied: str, waited_ms: float) -> None:
    WRITE_APPLIED.labels(applied).inc()
    WRITE_ACK_MS.observe(waited_ms)


def _count_verdicts(words: Mapping[str, int]) -> None:
    for word, many in words.items():
        CHECKS.labels(word).inc(many)
