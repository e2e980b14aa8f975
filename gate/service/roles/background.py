"""The background worker: removes expired facts, erases the data of deactivated Users, delivers Apps' webhooks, trims audits;
sweeps Presence, delivers online and offline events to receivers, and closes the Sessions of banned or deactivated Users.

No check or request waits for this work, and all of it may be repeated: if this process dies, the next one, on this node or
another, finishes its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

import structlog

from gate.clock import monotonic_ms, wall_ms
from gate.core.model import Environment
from gate.errors import ReplicaError, StoreUnavailable
from gate.metrics import (
    FACTS_ENDED,
    GATEWAYS,
    KICK_LAG_SECONDS,
    LOST_FACTS,
    OLDEST_BEAT,
    PRESENCE_CHANGES,
    PRESENCE_SWEPT,
    PRESENCE_WEBHOOKS,
    SESSIONS,
    SESSIONS_KICKED,
    SHADOW_APPS,
    SWEEPS,
    USERS_ERASED,
    WEBHOOKS,
)
from gate.presence.metrics import BoundedSeries
from gate.presence.mover import Mover
from gate.presence.sampler import Sampler
from gate.presence.session_revoker import SessionRevoker
from gate.presence.sweeper import Sweeper
from gate.replica.lost import losses
from gate.service.clock_watch import ClockWatch
from gate.service.redis_watch import LOOK_EVERY_S, RedisWatch
from gate.service.role import RoleContext
from gate.service.stores import connected_presence, connected_store, own_settings
from gate.store import settings
from gate.store.presence import PresenceStore
from gate.store.rights import ALL, FACTS, PRESENCE
from gate.store.store import Store
from gate.store.sweep import Sweep

if TYPE_CHECKING:
    from gate.webhooks.delivery import Deliverer
    from gate.webhooks.presence import PresenceNotifier

DAY_MS = 86_400_000
SHADOW_LOOK_EVERY_S = 15.0

log = structlog.get_logger()


class Chore(NamedTuple):
    """Something to do over and over, each in its own time, so that none holds up another."""

    name: str
    every_s: float
    work: Callable[[], Awaitable[object]]


async def main(context: RoleContext) -> None:
    """Do all chores until a stop is requested."""
    store = await connected_store(context)
    if store is None:
        return
    context.ready()
    # An HTTP client takes a quarter of a second to import, which the whole node's start would wait for.
    from gate.webhooks.delivery import Deliverer

    keeping = asyncio.create_task(_keep_presence(context, store))
    try:
        async with Deliverer(store.webhooks, store.apps, context.role_config.node_id, _count_webhook) as deliverer:
            chores = asyncio.ensure_future(
                asyncio.gather(*(_do(chore, context) for chore in _chores(store, deliverer, context)))
            )
            # A bug in either ends the role, which is restarted and counted.
            await asyncio.wait((chores, keeping), return_when=asyncio.FIRST_COMPLETED)
            # Raises what ended it; a stop ends it as well, without a fault.
            if keeping.done() and not context.stopping.is_set():
                keeping.result()
            await chores
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await store.aclose()


async def _keep_presence(context: RoleContext, store: Store) -> None:
    """Sweep, sample, close Sessions as the Changelog asks for, and post to presence webhooks, until cancelled."""
    presence = await connected_presence(context)
    if presence is None:
        return
    sessions = BoundedSeries(2, lambda labels, many: SESSIONS.labels(*labels).set(many))
    revoker = SessionRevoker(
        store.changelog,
        store.apps,
        store.users,
        presence,
        lambda why, many: SESSIONS_KICKED.labels(why).inc(many),
        lambda lag_ms: KICK_LAG_SECONDS.observe(lag_ms / 1_000),
    )
    try:
        async with asyncio.TaskGroup() as all_of_it:
            all_of_it.create_task(_sweeper(context, presence).run())
            all_of_it.create_task(Sampler(presence, sessions.set).run())
            all_of_it.create_task(revoker.run())
            all_of_it.create_task(Mover(store.apps, presence).run())
            all_of_it.create_task(_presence_notifier(context, store, presence).run())
            all_of_it.create_task(_put_settings_back(context, store, presence))
            if context.config.presence_redis:
                note = partial(context.note, topic="presence-redis")
                all_of_it.create_task(
                    RedisWatch("the Redis of Presence", "presence", presence.client, PRESENCE, note).run()
                )
    finally:
        await presence.client.aclose()


def _sweeper(context: RoleContext, presence: PresenceStore) -> Sweeper:
    for what in ("leases", "sessions", "departures"):
        PRESENCE_SWEPT.labels(what)  # exported as 0: a count that begins higher has not increased, and no alarm sees it
    gateways = BoundedSeries(1, lambda labels, many: GATEWAYS.labels(*labels).set(many))

    def export_leases(oldest_beat: float, holding: Mapping[str, int]) -> None:
        OLDEST_BEAT.set(oldest_beat)
        gateways.set({(app,): many for app, many in holding.items()})

    return Sweeper(
        presence,
        context.config.lease_ttl_ms,
        lambda what, many: PRESENCE_SWEPT.labels(what).inc(many),
        report=export_leases,
    )


def _presence_notifier(context: RoleContext, store: Store, presence: PresenceStore) -> PresenceNotifier:
    from gate.webhooks.presence import PresenceNotifier  # late, as above

    for outcome in ("delivered", "failed"):
        PRESENCE_WEBHOOKS.labels(outcome)
    for outcome in ("delivered", "lost"):
        PRESENCE_CHANGES.labels(outcome)
    return PresenceNotifier(
        store.apps,
        presence.client,
        context.role_config.node_id,
        lambda outcome: PRESENCE_WEBHOOKS.labels(outcome).inc(),
        lambda outcome, many: PRESENCE_CHANGES.labels(outcome).inc(many),
    )


async def _put_settings_back(context: RoleContext, store: Store, presence: PresenceStore) -> None:
    """For as long as this node runs, a Redis that lost its data gets back what other nodes are compared with."""
    reported: set[settings.Differing] = set()
    while True:
        try:
            differing = set(await settings.put_back(store.client, presence.client, own_settings(context)))
        except StoreUnavailable:
            # Away: what was reported stays reported, and is not logged again afterwards.
            differing = reported
        for one in differing - reported:
            log.error(
                "a setting of this node differs from the deployment's", setting=one.name, problem=settings.shown(one)
            )
        reported = differing
        await asyncio.sleep(settings.PUT_BACK_EVERY_S)


def _chores(store: Store, deliverer: Deliverer, context: RoleContext) -> list[Chore]:
    for outcome in ("run", "refused"):
        # As 0 from the start, or an alert that compares two moments never sees the first one.
        SWEEPS.labels(outcome)
    sweep, clocks = (
        Sweep(store),
        ClockWatch(store.client, context.role_config.node_id, partial(context.note, topic="clocks")),
    )
    needs = FACTS if context.config.presence_redis else ALL
    watch = RedisWatch("Redis", "facts", store.client, needs, partial(context.note, topic="redis"))
    return [
        Chore("clocks", 1.0, clocks.look),
        Chore("redis", LOOK_EVERY_S, watch.look),
        Chore("sweep", 5.0, lambda: _sweep(sweep, clocks, context)),
        Chore("jobs", 0.5, lambda: _work(store)),
        Chore("webhooks", 0.5, deliverer.run_once),
        Chore("losses", 5.0, lambda: _count_lost(context.layout.replica)),
        Chore("shadow", SHADOW_LOOK_EVERY_S, lambda: _look_at_shadow(store, partial(context.note, topic="shadow"))),
        Chore("audit", 60.0, lambda: _trim(store, clocks)),
    ]


async def _do(chore: Chore, context: RoleContext) -> None:
    while not context.stopping.is_set():
        try:
            await chore.work()
        except StoreUnavailable as away:  # the next round will do
            log.debug("put off", chore=chore.name, problem=str(away))
        try:
            # The pause comes after the work, so a slow chore never runs twice at once.
            await asyncio.wait_for(context.stopping.wait(), chore.every_s)
        except TimeoutError:
            continue


async def _sweep(sweep: Sweep, clocks: ClockWatch, context: RoleContext) -> None:
    over_ms = clocks.over_ms
    # Unknown while the clocks differ: then nothing is deleted by any of them.
    if over_ms is not None:
        FACTS_ENDED.inc(await sweep.run(over_ms, lambda: not context.stopping.is_set()))
    SWEEPS.labels("refused" if over_ms is None else "run").inc()


async def _work(store: Store) -> None:
    for job in await store.jobs.claim(monotonic_ms()):
        await store.jobs.run(job, wall_ms())
        USERS_ERASED.inc()


async def _count_lost(replica: Path) -> None:
    """A list that an operator deletes is no longer counted."""
    try:
        # A gauge: it goes down once an operator has dealt with a list.
        LOST_FACTS.set(sum(loss.lost + loss.by_hand_count for loss in losses(replica)))
    except ReplicaError as unreadable:  # a list that is being written is readable in the next round
        log.debug("put off", chore="losses", problem=str(unreadable))


async def _look_at_shadow(store: Store, note: Callable[[str], None]) -> None:
    """Shadow mode enforces nothing, so every node warns of Apps that are in it."""
    shadowed = [app.environment for app in await store.apps.list() if app.shadow]
    for environment in get_args(Environment):
        SHADOW_APPS.labels(environment).set(shadowed.count(environment))
    many = len(shadowed)
    are = "1 App is" if many == 1 else f"{many} Apps are"
    note(f"{are} in shadow mode: checks are answered allowed, not enforced (gate doctor names them)" if many else "")


async def _trim(store: Store, clocks: ClockWatch) -> None:
    if (over_ms := clocks.over_ms) is not None:
        for app in await store.apps.list():
            await store.audit.trim(app.key, over_ms, app.audit_days * DAY_MS)


def _count_webhook(outcome: str) -> None:
    WEBHOOKS.labels(outcome).inc()
