"""The HTTP process: RongCloud's user API, /v1, the console, probes and metrics.

Slow admin work here can't touch a check on the RESP port.

It listens at once, before Redis or the Replica are there: probes say what is missing, checks go on while Redis is away.
"""

from __future__ import annotations

import asyncio
import gc
from ipaddress import ip_network
from typing import Any

import structlog

from gate.clock import monotonic_ms
from gate.config import ServeConfig
from gate.console.site import Console
from gate.errors import CannotStart
from gate.http.context import Deps
from gate.http.limits import Limiter
from gate.http.operators import OperatorAuth
from gate.http.options import HttpOptions, ProxySignIn
from gate.http.responses import Tally
from gate.http.server import HttpServer, serve_http
from gate.http.shared import Shared
from gate.http.tracing import Tracing, open_tracing
from gate.metrics import (
    WRITE_DURABILITY_LATE,
)
from gate.option_values import Endpoint
from gate.readiness import Ready
from gate.replica.authorization import Admission
from gate.replica.reading import Reading
from gate.replica.shadow import Shadows
from gate.service.certificates import Certificates
from gate.service.node_state import NodeState
from gate.service.role import RoleContext
from gate.service.roles.http_presence import HttpPresence, most_websockets
from gate.service.shadow_reporter import ShadowReporter
from gate.service.stores import connected_store, durability_of, not_reached
from gate.store.acks import Acknowledger
from gate.store.store import Store

LOG_LATE_EVERY_MS = 60_000
"""A server whose replicas are away has every write late."""
GC_THRESHOLDS = (50_000, 20, 100)
"""As for hot workers: thousands of WebSockets are a million objects, which Python's default looks through over and over."""

_log = structlog.get_logger()


async def main(context: RoleContext) -> None:
    """Serve until a stop is requested, then drain."""
    gc.set_threshold(*GC_THRESHOLDS)
    store, acks = Ready[Store](not_reached), Ready[Acknowledger](not_reached)
    shadows = Shadows()
    replica = Ready(lambda: _reading(context, shadows))
    presence, tally = HttpPresence(context, Admission(replica.get)), Tally()
    endpoint = context.config.otel_endpoint
    tracing = None if endpoint is None else await asyncio.to_thread(open_tracing, endpoint, context.role_config.node_id)
    server = await _served(context, store, acks, replica, presence, tally, tracing)
    if context.role_config.http_tls is not None:
        Certificates(context, context.role_config.http_tls, server.use_tls, ["http/1.1"])
    shadow = ShadowReporter(shadows)
    shadow.client = presence.store.client
    reporting = [asyncio.create_task(one) for one in (tally.report_for_ever(), shadow.run())]
    if context.role_config.is_restart:
        context.ready()
    connecting = asyncio.create_task(_connect(context, store, acks))
    stopping = asyncio.ensure_future(context.stopping.wait())
    try:
        await asyncio.wait([connecting, stopping], return_when=asyncio.FIRST_COMPLETED)
        connected = await connecting
        if connected is None:
            return
        context.ready()
        gc.freeze()  # what was imported stays for good
        # A bug in what keeps WebSockets' Sessions ends the role, which is restarted and counted.
        await _stopped_or_failed(stopping, presence.gateway.failed)
    finally:
        stopping.cancel()
        gc.disable()  # it would look through what thousands of WebSockets leave, which goes with the process anyway
        await server.drain(context.drain_s)
        for task in reporting:
            task.cancel()
        await shadow.finish()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)
        await presence.aclose()
        tally.report()
    await connected[1].aclose()
    await connected[0].aclose()


def _reading(context: RoleContext, shadows: Shadows) -> Reading:
    reading = Reading(context.layout.replica)
    reading.shadows = shadows
    return reading


async def _stopped_or_failed(stopping: asyncio.Future[Any], failed: asyncio.Future[None]) -> None:
    waited: list[asyncio.Future[Any]] = [stopping, failed]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if failed.done():
        failed.result()


async def _connect(
    context: RoleContext, store: Ready[Store], acks: Ready[Acknowledger]
) -> tuple[Store, Acknowledger] | None:
    connected = await connected_store(context)
    if connected is None:
        return None
    acknowledger = Acknowledger(connected, context.role_config.node_id, durability_of(context.config))
    await acknowledger.start()
    store.put(connected)
    acks.put(acknowledger)
    return connected, acknowledger


async def _served(
    context: RoleContext,
    store: Ready[Store],
    acks: Ready[Acknowledger],
    replica: Ready[Reading],
    presence: HttpPresence,
    tally: Tally,
    tracing: Tracing | None,
) -> HttpServer:
    config, endpoint, admin = context.config, context.role_config.http, context.role_config.admin
    assert endpoint is not None
    state = NodeState(context.heartbeats, context.layout.replica, were_all_here=context.role_config.is_restart)
    shared = Shared(context.role_config.shared_fd, config.http_workers)
    deps = Deps(
        replica_when_ready=replica,
        store_when_ready=store,
        acks_when_ready=acks,
        presence=presence.store,
        feeds=presence.feeds,
        pinging=presence.pinging,
        gateway=presence.gateway,
        options=_options(config, endpoint, admin),
        limiter=Limiter(buckets=shared.buckets),
        roles_missing=state.missing,
        warnings=state.warnings,
        metrics_text=lambda: state.metrics(tally.report),
        count_request=tally.count_request,
        trace=None if tracing is None else tracing.add,
        count_late=LateWrites(),
        count_verdicts=tally.count_verdicts,
    )
    try:
        door = OperatorAuth(shared=shared)
        return await serve_http(deps, door, [Console(door)])
    except OSError as fault:
        raise CannotStart(f"can't listen on {endpoint}{f' or {admin}' if admin else ''}: {fault.strerror}") from None


def _options(config: ServeConfig, endpoint: Endpoint, admin: Endpoint | None) -> HttpOptions:
    return HttpOptions(
        host=endpoint.host,
        port=endpoint.port,
        admin=(admin.host, admin.port) if admin else None,
        reuse_port=True,
        max_staleness_ms=config.max_staleness_ms,
        on_stale=config.on_stale,
        ack_timeout_ms=config.ack_timeout_ms,
        max_websockets=most_websockets(),
        idle_s=config.http_idle_timeout,
        public_url=config.public_url or "",
        trusted_proxies=tuple(map(ip_network, config.trusted_proxies)),
        sign_in=_sign_in(config),
        log_checks=config.log_checks,
    )


def _sign_in(config: ServeConfig) -> ProxySignIn | None:
    if config.operator_header is None:
        return None
    return ProxySignIn(config.operator_header, config.operator_groups_header or "", config.operator_groups or {})


class LateWrites:
    """Counts the writes that were not as durable in time as asked; logs one of them a minute, with how many there were."""

    def __init__(self) -> None:
        self._many = 0
        self._silent_until_ms = 0

    def __call__(self, why: str) -> None:
        """One more."""
        WRITE_DURABILITY_LATE.inc()
        self._many += 1
        now_ms = monotonic_ms()
        if now_ms >= self._silent_until_ms:
            _log.warning("writes are pending for their durability", writes=self._many, reason=why)
            self._many, self._silent_until_ms = 0, now_ms + LOG_LATE_EVERY_MS
