"""How a command reaches Redis, and how it waits until what it wrote is effective.

A command connects, does one thing and leaves. Its write is answered like one over HTTP: the Revision, and how far it
got within a second (`all` live nodes, this `node`, or still `pending`).

Nothing of Presence comes from the Replica, so with Redis away the commands that show who is online, and `gate kick`, end with
status 3, as writes do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from gate.cli.options import Target, system_user
from gate.clock import wall_ms
from gate.core.model import AppFacts
from gate.errors import Unavailable

if TYPE_CHECKING:
    from gate.store.acks import Acknowledger
    from gate.store.app_writes import AppWrites
    from gate.store.presence import PresenceStore
    from gate.store.store import Store, WriteReceipt


T = TypeVar("T")

# The default wait of a write over HTTP.
ACK_TIMEOUT_MS = 1_000

_APPLIED_WORDS = {
    "all": "effective on every live node",
    "node": "effective on this node; another live node has yet to follow",
    "pending": "written; no node has confirmed it yet",
}


@dataclass(frozen=True)
class Settled:
    """A completed write: which nodes applied it, and which durability it reached."""

    revision: str
    applied: str
    live_nodes: int
    late: str = ""
    """The text for a durability that was not reached; "" if it was."""

    @property
    def fields(self) -> dict[str, str]:
        """The fields of the JSON document."""
        shown = {"revision": self.revision, "applied": self.applied}
        return shown | {"pending_reason": self.late} if self.late else shown

    @property
    def shown(self) -> str:
        """The text form."""
        if self.late:
            return f"written; {self.late}"
        return _APPLIED_WORDS[self.applied] if self.live_nodes else "written; no node is live"


@dataclass(frozen=True)
class StoreConnection:
    """A connected store. `write` is for gating writes."""

    store: Store
    _acks: Acknowledger

    async def write(self, writing: Awaitable[WriteReceipt]) -> Settled:
        """Write, then wait until it is effective."""
        return await self.settle(await writing)

    async def settle(self, written: WriteReceipt, timeout_ms: int = ACK_TIMEOUT_MS) -> Settled:
        """Wait until a write is effective, at most that long."""
        applied, late = await self._acks.acknowledge(written, timeout_ms)
        return Settled(written.text, applied, len(written.live_nodes), late)

    def writes(self, app: AppFacts, why: str = "", by: str = "", now_ms: int | None = None) -> AppWrites:
        """The writes to an App's facts, now, for this reason and by this actor."""
        from gate.store.app_writes import AppWrites  # late, as in `open_store`
        from gate.store.writer import Attribution

        return AppWrites(self.store, app, wall_ms() if now_ms is None else now_ms, Attribution(by, why))

    async def app(self, key: str) -> AppFacts:
        """The App, or `AppUnknown`. Asked before each write: facts of no App would never be found again."""
        return await self.store.apps.get(key)


@asynccontextmanager
async def open_store(target: Target) -> AsyncIterator[StoreConnection]:
    """The store that the options name, connected; `StoreUnavailable` within half a second if it is away."""
    # Late: what talks to Redis takes longer to import than `--help` and `check` to answer.
    from gate.sealing import use_key_file
    from gate.store.acks import Acknowledger
    from gate.store.store import Store

    # Before the first App is read: its secret may be sealed.
    use_key_file(target.secret_key_file())
    store = await Store.connect(target.redis_url())
    try:
        # Before the write: announcements that come in between would be missed, and a write look pending.
        acks = Acknowledger(store, _waited_for(target), target.durability())
        await acks.start()
        try:
            yield StoreConnection(store, acks)
        finally:
            await acks.aclose()
    finally:
        await store.aclose()


def _waited_for(target: Target) -> str | None:
    """This data directory's node, if its replicator runs: a node that is down is not waited for."""
    from gate.cli.local_node import replicator_runs

    return target.node_id() if replicator_runs(target.replica_dir()) else None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part. What Redis refuses is `Unavailable`, in its words."""
    from gate.store.link import ReplyError  # late, as in `open_store`
    from gate.store.writer import ORIGIN, Origin

    # Who the system says this is; `--actor` is only what the caller says.
    ORIGIN.set(Origin("cli", system_user()))
    try:
        return asyncio.run(work)
    except ReplyError as refusal:
        raise Unavailable(f"Redis refused: {refusal}") from None


def run_with(target: Target, work: Callable[[StoreConnection], Awaitable[T]]) -> T:
    """Connect, do the work, leave."""

    async def connected() -> T:
        async with open_store(target) as connection:
            return await work(connection)

    return run(connected())


@asynccontextmanager
async def open_both(target: Target, app_key: str) -> AsyncIterator[tuple[Store, PresenceStore]]:
    """The store and Presence, each in its Redis; `AppUnknown`, or `StoreUnavailable` within half a second."""
    from gate.store.address import parse_address  # late, as in `open_store`
    from gate.store.bootstrap import refuse_old_server
    from gate.store.cluster import client_of
    from gate.store.presence import PresenceStore
    from gate.store.store import Store

    facts = await Store.connect(target.redis_url())
    try:
        await facts.apps.get(app_key)  # a mistyped key must be an error, not an App without online Users
        client = client_of(parse_address(target.presence_url()))
        try:
            await refuse_old_server(client)
            yield facts, PresenceStore(client)
        finally:
            await client.aclose()
    finally:
        await facts.aclose()


def ask_presence(target: Target, work: Callable[[PresenceStore, str], Awaitable[T]]) -> T:
    """Connect, do the work for the App that the options name, leave."""
    app_key = target.app_key()

    async def connected() -> T:
        async with open_both(target, app_key) as (_, presence):
            return await work(presence, app_key)

    return run(connected())
