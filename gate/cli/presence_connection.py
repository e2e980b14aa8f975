"""How a command reaches Presence: the App is looked up among the facts, then its Redis is asked.

Nothing of it comes from the Replica, so with Redis away these commands end with status 3, as writes do. Called by the commands
that show who is online, and by `gate kick`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from gate.cli.options import Target
from gate.cli.store_connection import run

if TYPE_CHECKING:
    from gate.store.presence import PresenceStore
    from gate.store.store import Store

T = TypeVar("T")


@asynccontextmanager
async def open_presence(target: Target, app_key: str) -> AsyncIterator[PresenceStore]:
    """Presence in the Redis that the options name; `AppUnknown`, or `StoreUnavailable` within half a second."""
    # Late, as in `store_connection`: the help page should not pay for the import of the Redis client.
    from gate.store.address import parse_address
    from gate.store.bootstrap import refuse_old_server
    from gate.store.cluster import client_of
    from gate.store.presence import PresenceStore
    from gate.store.store import Store

    facts = await Store.connect(target.redis_url())
    try:
        await facts.apps.get(app_key)  # a mistyped key must be an error, not an App without online Users
    finally:
        await facts.aclose()
    client = client_of(parse_address(target.presence_url()))
    try:
        await refuse_old_server(client)
        yield PresenceStore(client)
    finally:
        await client.aclose()


@asynccontextmanager
async def open_both(target: Target, app_key: str) -> AsyncIterator[tuple[Store, PresenceStore]]:
    """The store and Presence, for commands that write to both; raises the errors of `open_presence`."""
    from gate.store.store import Store  # late, as above

    async with open_presence(target, app_key) as presence:
        facts = await Store.connect(target.redis_url())
        try:
            yield facts, presence
        finally:
            await facts.aclose()


def ask_presence(target: Target, work: Callable[[PresenceStore, str], Awaitable[T]]) -> T:
    """Connect, do the work for the App that the options name, leave."""
    app_key = target.app_key()

    async def connected() -> T:
        async with open_presence(target, app_key) as presence:
            return await work(presence, app_key)

    return run(connected())
