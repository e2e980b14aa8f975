"""How roles come to a connected Store.

That Redis is away is weather: a role waits for it and reports that to the supervisor, and HTTP meanwhile serves checks and
answers writes with 503 (`Ready`). Only at the start of a node without a Replica does the supervisor refuse for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from gate.config import ServeConfig
from gate.errors import CannotStart, InvalidConfig, SecretsSealed, StoreUnavailable
from gate.sealing import opened
from gate.service.role import RoleContext
from gate.store import settings
from gate.store.address import parse_address
from gate.store.bootstrap import refuse_old_server
from gate.store.client import Client
from gate.store.cluster import client_of
from gate.store.durability import Durability, require
from gate.store.eviction import eviction_policy, shown_eviction
from gate.store.link import ReplyError
from gate.store.presence import PresenceStore
from gate.store.rights import PRESENCE, missing_rights, shown_missing
from gate.store.store import Store

# The role that logs of Redis, so that each change is logged once a node.
VOICE = "background"
# As often as the store itself probes a Redis that is away.
RETRY_EVERY_S = 0.25

_log = structlog.get_logger()


async def connected_store(
    context: RoleContext,
    settle: Callable[[Store], Awaitable[None]] | None = None,
    when_away: Callable[[], object] = bool,
) -> Store | None:
    """The Store, as soon as Redis answers and `settle` accepts it; None if a stop comes first. `when_away`: at each failure.

    What can never be right (`InvalidConfig`, `CannotStart`) is raised only where nothing was waited for; later it is waited for
    too, since a service that serves checks does not end for it.
    """
    if not await _until_store_answers(context):
        return None
    while not context.stopping.is_set():
        try:
            store = await _settled(context, settle)
        except (StoreUnavailable, ReplyError) as fault:
            problem = str(fault)
        except (InvalidConfig, CannotStart) as fault:
            if context.may_refuse:
                raise
            problem = "; ".join(fault.problems) if isinstance(fault, InvalidConfig) else str(fault)
        else:
            context.reached()
            context.waits_for("")
            return store
        _wait_for(context, _of_redis(problem, parse_address(context.role_config.redis_url).shown))
        when_away()
        if context.role_config.is_restart:
            context.ready()  # it does what can be done: readiness does not turn back because Redis is away
        await asyncio.sleep(RETRY_EVERY_S)
    return None


def _wait_for(context: RoleContext, problem: str) -> None:
    """Of the roles that wait, one logs what changes; what a start meets first is printed by the supervisor."""
    was_waiting = bool(context.problem) or context.role_config.is_restart
    if context.waits_for(problem) and was_waiting and context.role_config.name == VOICE:
        _log.warning("Redis can't be used", problem=problem)


async def _settled(context: RoleContext, settle: Callable[[Store], Awaitable[None]] | None) -> Store:
    is_start = not context.role_config.is_restart  # what runs is refused nothing
    store = await Store.connect(
        context.role_config.redis_url, partitions=context.config.partitions, tries_rights=is_start
    )
    try:
        if is_start:
            await _refuse_eviction(context, store.client)
            await require(store.client, durability_of(context.config))
            await settings.agree(store.client, context.role_config.node_id, own_settings(context))
            await _refuse_another_presence(context, store)
            await _refuse_sealed(store)
        if settle is not None:
            await settle(store)
    except BaseException:
        await store.aclose()
        raise
    return store


def _of_redis(problem: str, shown: str) -> str:
    return f"Redis: {problem}" if shown in problem else f"Redis at {shown}: {problem}"


async def connected_presence(context: RoleContext) -> PresenceStore | None:
    """Presence, as soon as its Redis answers; None if a stop is requested first.

    It has a connection of its own, so that a storm of connects delays no write. An unreachable Redis of Presence never fails a
    start: checks and writes do not need it.
    """
    client = client_of(parse_address(context.config.presence_redis or context.role_config.redis_url))
    if await agreed_on_presence(context, client):
        return PresenceStore(client)
    await client.aclose()
    return None


async def agreed_on_presence(context: RoleContext, client: Client) -> bool:
    """Wait until this client's Redis is known to be that of the deployment's Presence; False if a stop is requested first."""
    if not await _until_store_answers(context):
        return False
    facts = client_of(parse_address(context.role_config.redis_url))
    try:
        while not context.stopping.is_set():
            try:
                # Each time: the address may lead to another server by now.
                await refuse_old_server(client)
                await settings.agree_on_presence(facts, client, context.role_config.node_id)
            except (StoreUnavailable, ReplyError):
                pass
            except InvalidConfig as differs:  # `_settled` refuses the start for it; a service that runs waits
                context.note("; ".join(differs.problems))
            else:
                context.note("")
                return True
            await asyncio.sleep(RETRY_EVERY_S)
    finally:
        await facts.aclose()
    return False


async def _refuse_another_presence(context: RoleContext, store: Store) -> None:
    """Raises `InvalidConfig` if this node would keep Presence elsewhere than the others do, `StoreUnavailable` without rights,
    `CannotStart` where Sessions may be evicted.

    That the Redis of Presence is away is no reason: `connected_presence` asks again.
    """
    client = client_of(parse_address(context.config.presence_redis or context.role_config.redis_url))
    try:
        # Rights first: without them each later step would fail with an error that names a command, not the right.
        missing = await missing_rights(client, PRESENCE)
        if not missing:
            await _refuse_eviction(context, client)
            await settings.agree_on_presence(store.client, client, context.role_config.node_id)
    except StoreUnavailable:
        return
    finally:
        await client.aclose()
    if missing:
        raise StoreUnavailable(shown_missing(client, missing))


async def _refuse_eviction(context: RoleContext, client: Client) -> None:
    """`CannotStart` on a server that may evict, unless that is allowed."""
    if not context.config.allow_eviction and (policy := await eviction_policy(client)):
        raise CannotStart(f"{shown_eviction(client, policy)}, or start with --allow-eviction")


async def _refuse_sealed(store: Store) -> None:
    """`CannotStart` if the secrets of an App can't be opened: its callers could not sign in."""
    try:
        for facts in await store.apps.stored():
            opened(facts)
    except SecretsSealed as fault:
        raise CannotStart(str(fault)) from None


def durability_of(config: ServeConfig) -> Durability:
    """What `--durability` asks."""
    return Durability(config.durability, config.durability_replicas)


def own_settings(context: RoleContext) -> dict[str, str]:
    """Those of this node that every node must have alike, but for the Presence that it reaches."""
    return {settings.LEASE_TTL: str(context.config.lease_ttl_ms)}


async def _until_store_answers(context: RoleContext) -> bool:
    """Wait for `GO` from the supervisor; False if a stop is requested first."""
    going, stopping = (
        asyncio.ensure_future(context.store_answers.wait()),
        asyncio.ensure_future(context.stopping.wait()),
    )
    await asyncio.wait([going, stopping], return_when=asyncio.FIRST_COMPLETED)
    # Cancelling the waits leaves the events as they are, for the next caller.
    going.cancel()
    stopping.cancel()
    return context.store_answers.is_set()


def not_reached() -> NoReturn:
    """Raise what a use of Redis raises before it has been reached."""
    raise StoreUnavailable("Redis has not been reached yet")
