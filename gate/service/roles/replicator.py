"""The replicator: makes sure that the first App exists, then keeps this node's Replica in step with Redis.

It opens the Replica at once, so that a node whose Redis is away serves what it has, or nothing if that can't be trusted; the
rest follows when Redis answers (`Upstream`).

One at a time in a data directory: an orphan of a supervisor that was killed may still be closing its files in order, so a new
one waits for its lock first. One at a time under a node's id, too: a copy of a directory refuses to start while the other
runs.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
from contextlib import suppress

import structlog
from msgspec.structs import replace

from gate.clock import wall_ms
from gate.errors import CannotStart, GateError, StoreUnavailable
from gate.readiness import Ready
from gate.replica.layout import CURRENT_FILE
from gate.replica.lost import Loss
from gate.replica.ports import Upstream
from gate.replica.replicator import Replicator
from gate.service.credentials import ensure_first
from gate.service.directory_layout import directory_id
from gate.service.node_rates import NodeRates
from gate.service.node_report import lag_of, node_report
from gate.service.role import ORPHAN_GRACE_S, RoleContext
from gate.service.stores import connected_store, not_reached
from gate.store.node_reports import NodeReport, answer_asked
from gate.store.nodes import NodeAnnouncer
from gate.store.store import Store

LOCK_FILE = "replicator.writing"
LOCK_LOOK_EVERY_S = 0.01
# Changes are many small objects that no cycle holds. Of 100,000, a second of CPU time reads 300,000 so, and 190,000 with
# Python's own (700, 10, 10).
GC_THRESHOLDS = (100_000, 50, 100)

log = structlog.get_logger()


async def main(context: RoleContext) -> None:
    """Replicate until a stop is requested."""
    gc.set_threshold(*GC_THRESHOLDS)
    lock = await _sole_writer(context)
    store, upstream = Ready[Store](not_reached), Upstream()
    replicator = Replicator(
        context.layout.replica,
        upstream,
        before_snapshot=lambda: _ensure_first(context, store.get()),
        was_ready=context.role_config.is_restart,
        show_problem=lambda problem: _show(context, upstream, problem),
        on_loss=lambda loss: note_loss(store.get(), context.role_config.node_id, loss),
    )
    running = asyncio.create_task(replicator.run())
    connecting = asyncio.create_task(_connect(context, store, upstream))
    saying = asyncio.create_task(_say(context, replicator))
    reporting = asyncio.create_task(_report(context, store, connecting))
    stopping = asyncio.ensure_future(context.stopping.wait())
    try:
        await asyncio.wait([running, connecting, stopping], return_when=asyncio.FIRST_COMPLETED)
        # Connected: from here on the replicator itself, or a stop, ends the role.
        if connecting.done() and connecting.exception() is None:
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (connecting, saying, reporting, stopping):
            task.cancel()
        replicator.stop()
        # Before `running` is awaited: it may wait for a Redis that never came.
        upstream.give_up()
        refusal, *_ = await asyncio.gather(connecting, running, return_exceptions=True)
        if upstream.is_connected:
            await store.get().aclose()
        os.close(lock)
    if isinstance(refusal, Exception):
        raise refusal
    running.result()


async def _connect(context: RoleContext, ready: Ready[Store], upstream: Upstream) -> None:
    """Give the replicator its Redis. `CannotStart` or `InvalidConfig` if the start is refused."""

    async def settle(store: Store) -> None:
        is_embedded = context.config.redis is None
        announcer = store.announcer(
            context.role_config.node_id, directory_id(context.layout.data), owns_server=is_embedded
        )
        if not context.role_config.is_restart:  # a service that runs is refused nothing
            await _refuse_a_copy(context, announcer)
        await _ensure_first(context, store)
        ready.put(store)
        upstream.connect(store.changelog, announcer)

    await connected_store(context, settle, upstream.give_up)


def _show(context: RoleContext, upstream: Upstream, problem: str) -> None:
    if not upstream.is_connected:  # till then `connected_store` knows better what the problem is
        return
    if context.waits_for(problem) and problem and not (context.layout.replica / CURRENT_FILE).exists():
        log.warning("no facts could be loaded yet", problem=problem)


async def note_loss(store: Store, node: str, loss: Loss) -> None:
    """Write it to the deployment's audit, and to the audit of each App that exists. The log and the disk have it as well."""
    for app, lost in loss.apps.items():
        try:
            is_there = not await store.apps.missing([app])
            why = f"Redis came back with another history: {loss.reason}"
            await store.audit.note_loss(app, node, lost, why, in_app=is_there)
        except StoreUnavailable as fault:
            log.warning("a loss is not in the audit", app=app, problem=str(fault))


async def _refuse_a_copy(context: RoleContext, announcer: NodeAnnouncer) -> None:
    if await announcer.has_rival():
        raise CannotStart(
            f"a node of this one's id, {context.role_config.node_id}, runs already, in a data directory that was copied from "
            f"or to {context.layout.data}: delete {context.layout.node_id}, and start again"
        )


async def _ensure_first(context: RoleContext, store: Store) -> None:
    await ensure_first(context.layout.credentials, store.apps, store.operators, wall_ms())


async def _say(context: RoleContext, replicator: Replicator) -> None:
    await replicator.opened.wait()
    context.opened()
    await replicator.ready.wait()
    context.ready()


async def _report(context: RoleContext, store: Ready[Store], connecting: asyncio.Task[None]) -> None:
    """Answer commands that ask what this node is and does, until cancelled."""
    # Not awaited itself: its exception is for `main`, which ends the role.
    await asyncio.wait([connecting])
    try:
        client = store.get().client
    except StoreUnavailable:
        return
    data = context.layout.data
    rates = NodeRates(data, lambda: lag_of(data))
    node = context.role_config.node_id

    def report(with_samples: bool) -> NodeReport:
        with suppress(GateError, OSError):  # as of a service.json that another version wrote
            if found := node_report(data, node, rates.now()):
                return replace(found, samples=tuple(rates.samples)) if with_samples else found
        return NodeReport(node=node, name=context.config.node_name)

    async with asyncio.TaskGroup() as both:
        both.create_task(rates.keep())
        both.create_task(answer_asked(client, report))


async def _sole_writer(context: RoleContext) -> int:
    path = context.layout.run / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(int(2 * ORPHAN_GRACE_S / LOCK_LOOK_EVERY_S)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            await asyncio.sleep(LOCK_LOOK_EVERY_S)
    raise CannotStart(f"another replicator still writes in {context.layout.replica} (it holds {path}); end it first")
