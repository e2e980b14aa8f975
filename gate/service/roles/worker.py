"""The hot worker: answers checks on the RESP port out of this node's Replica, and Gateways out of Presence.

It listens as soon as there is a Replica to read, so a node that restarts answers checks while everything else is still coming
up. Presence, which needs Redis, is imported and connected behind that; no check ever meets it.
"""

from __future__ import annotations

import asyncio
import gc
import resource
from collections import Counter

from gate.errors import ReplicaForeign, ReplicaMissing
from gate.metrics import (
    CHECK_SECONDS,
    CHECKS,
    HTTP_BUCKETS_S,
    NATIVE_WORKERS,
    RESP_CONNECTIONS,
    RESP_CONNECTIONS_OPENED,
    RESP_ERRORS,
    add_times,
)
from gate.replica.native_core import trusted_core
from gate.service.certificates import Certificates
from gate.service.limits import FEW_FILES, most_clients
from gate.service.role import RoleContext
from gate.wire.client import Worker
from gate.wire.listener import WireOptions, WireServer, serve_wire

# The storm of a Gateway's connects makes thousands of short-lived objects at once; Python's default looks through them, and
# through everything cached, every few hundred: that took three quarters of the time of such a storm.
GC_THRESHOLDS = (50_000, 20, 100)
PRESENCE_WAITED_FOR_S = 2.0
# How often to look for the Replica that the replicator is about to make; one look opens one small file.
REPLICA_LOOK_EVERY_S = 0.01


class Tally:
    """Passes on what a worker counted since the last time; its own counters are plain integers, cheap on the hot path."""

    def __init__(self) -> None:
        self._words: Counter[str] = Counter()
        self._opened = 0
        self._errors = 0

    def report(self, worker: Worker) -> None:
        """Called by the listener once a second and at the end."""
        for word, total in worker.words.items():
            # Most words are never answered; a label that is touched exists from then on, in each process.
            if total != self._words[word]:
                CHECKS.labels(word).inc(total - self._words[word])
                self._words[word] = total
        counts, sum_us = worker.take_times()
        if any(counts):
            add_times(CHECK_SECONDS.labels("resp"), counts, sum_us / 1_000_000)
        NATIVE_WORKERS.set(trusted_core() is not None)
        RESP_CONNECTIONS.set(worker.connections)
        RESP_CONNECTIONS_OPENED.inc(worker.connections_total - self._opened)
        RESP_ERRORS.inc(worker.errors - self._errors)
        self._opened, self._errors = worker.connections_total, worker.errors


async def main(context: RoleContext) -> None:
    """Serve until a stop is requested, then drain."""
    gc.set_threshold(*GC_THRESHOLDS)
    server = await _served(context)
    if server is None:
        return
    if context.role_config.resp_tls is not None:
        Certificates(context, context.role_config.resp_tls, server.use_tls)
    is_open = asyncio.Event()
    connecting = asyncio.create_task(_connect_presence(context, server.worker, is_open))
    # After a death checks come first: it is ready without Presence.
    if not context.role_config.is_restart:
        await _opened_or_stopped(is_open, context)
    context.ready()
    await context.stopping.wait()
    await server.drain(context.drain_s)
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)


async def _opened_or_stopped(is_open: asyncio.Event, context: RoleContext) -> None:
    """A client may send a connect as soon as it reads the ready line; checks do not wait long for a separate Presence Redis."""
    waits = [asyncio.create_task(event.wait()) for event in (is_open, context.stopping)]
    await asyncio.wait(waits, timeout=PRESENCE_WAITED_FOR_S, return_when=asyncio.FIRST_COMPLETED)
    for one in waits:
        one.cancel()


async def _connect_presence(context: RoleContext, worker: Worker, is_open: asyncio.Event) -> None:
    """Open the service for presence commands, until cancelled."""
    from gate.presence.session_service import SessionService
    from gate.replica.authorization import Admission
    from gate.service.shadow_reporter import ShadowReporter
    from gate.service.stores import connected_presence

    shadow = ShadowReporter(worker.reading.shadows, lambda: worker.words)
    reporting = asyncio.create_task(shadow.run())
    try:
        store = await connected_presence(context)
        if store is None:
            return
        gc.freeze()  # what was imported stays for good
        service = SessionService(store, context.config.lease_ttl_ms, Admission(lambda: worker.reading))
        worker.session_service = service
        shadow.client = store.client
        is_open.set()
        try:
            await asyncio.Event().wait()
        finally:
            await shadow.finish()
            await service.aclose()
            await store.client.aclose()
    finally:
        reporting.cancel()


async def _served(context: RoleContext) -> WireServer | None:
    config, endpoint = context.config, context.role_config.resp
    assert endpoint is not None
    options = WireOptions(
        replica_dir=context.layout.replica,
        host=endpoint.host,
        port=endpoint.port,
        unix_fd=context.role_config.unix_fd,
        max_staleness_ms=config.max_staleness_ms,
        on_stale=config.on_stale,
        on_counts=Tally().report,
        time_bounds_us=tuple(round(bound_s * 1_000_000) for bound_s in HTTP_BUCKETS_S),
        max_connections=_most_connections(),
    )
    while not context.stopping.is_set():
        try:
            server = await serve_wire(options)
        except (ReplicaMissing, ReplicaForeign) as fault:  # no Replica yet, or the replicator is about to replace it
            context.note(str(fault))
            await asyncio.sleep(REPLICA_LOOK_EVERY_S)
        else:
            context.note("")
            return server
    return None


def _most_connections() -> int | None:
    """Where few files may be open, as many as that leaves; else the listener's own bound."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most_clients(files) if 0 <= files < FEW_FILES else None
