"""Bulk writes, as for an import: facts are grouped by Partition into scripts of bounded size, several in flight at a time.

Facts are stated outright, so an interrupted run is completed by running it again. Of several facts about the same thing the
last one counts. Deactivated Users may be penalized here: the loaded facts are another system's state.
    async with store.bulk("default", now_ms) as bulk:
        await bulk.add(ListKind.BLACKLIST, owner, members)
        await bulk.ban(user, until_ms)
        result = await bulk.flush()
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple

from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.core.revision import Revision
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.client import Client
from gate.store.link import Link, LinkLost, Reply, is_noscript, raise_if_error
from gate.store.lists import Group, Lists, refusals
from gate.store.penalties import BAN, MUTE, Penalties, Penalty
from gate.store.users import Registration, Users
from gate.store.writer import Step, Writer, WriteReceipt, logged_call, revisions_of

# Bounds the time of one script in the server: some 2 ms.
FACTS_A_SCRIPT = 1_000
# For facts that are one Change each. A following node reads in pieces of 64 KB with a script between any two. With longer
# scripts it would miss its deadline on a busy machine and be disconnected.
USERS_A_SCRIPT = 250
SCRIPTS_A_PIPELINE = 8
# While the server runs one, the next is packed and sent.
PIPELINES_UNDER_WAY = 2
# For one pipeline, which may wait behind others and behind a rewrite of the append-only file.
BULK_DEADLINE_MS = 10_000


class FullList(NamedTuple):
    """A list to which nothing was added, because it would have exceeded the ceiling."""

    kind: ListKind
    owner: bytes
    size: int
    adding: int


class BulkResult(NamedTuple):
    """Everything written since the BulkWriter was made. `facts` counts a repeated fact each time."""

    facts: int
    written: WriteReceipt
    full: list[FullList]


class BulkWriter:
    """Not shared between tasks. Every method may raise `StoreUnavailable`; then some of the facts may have been written."""

    def __init__(self, writer: Writer, app_key: str, now_ms: int, ceiling: int | None) -> None:
        self._writer = writer
        self._app = app_key
        self._now_ms = now_ms
        self._ceiling = ceiling
        self._lists = Lists(writer)
        self._penalties: dict[str, Penalties] = {"ban": Penalties(writer, BAN), "mute": Penalties(writer, MUTE)}
        self._users = Users(writer)
        self._links: dict[Client, Link] = {}
        self._penalized: dict[tuple[str, int], dict[bytes, Penalty]] = {}
        self._groups: dict[tuple[ListKind, int], list[Group]] = {}
        self._group_sizes: dict[tuple[ListKind, int], int] = {}
        self._switched: dict[int, dict[bytes, bool]] = {}
        self._registered: dict[int, dict[bytes, Registration]] = {}
        self._ready: list[tuple[Step, Callable[[Reply], None]]] = []
        self._under_way: deque[asyncio.Task[None]] = deque()
        self._newest: dict[int, Revision] = {}
        self._taken_by: dict[int, str] = {}
        """The run of the server that took a Partition's newest write."""
        self._full: list[FullList] = []
        self._facts = 0

    async def __aenter__(self) -> BulkWriter:
        for server in await self._writer.client.masters():
            self._links[server] = await server.open_dedicated()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Discards what was not flushed."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for link in self._links.values():
            await link.aclose()

    async def ban(self, user: bytes, until_ms: int, why: str = "", by: str = "") -> None:
        """Impose a Ban."""
        await self._penalize("ban", Penalty(user, until_ms, why, by))

    async def mute(self, user: bytes, until_ms: int, why: str = "", by: str = "") -> None:
        """Impose a Mute."""
        await self._penalize("mute", Penalty(user, until_ms, why, by))

    async def add(self, kind: ListKind, owner: bytes, members: Sequence[bytes], until_ms: int = FOREVER_MS) -> None:
        """Add entries to a list. If a list is given in parts, early parts may be written before a later one is refused."""
        self._facts += len(members)
        at = kind, self._writer.partition_of(self._app, owner)
        groups = self._groups.setdefault(at, [])
        for first in range(0, len(members), FACTS_A_SCRIPT):
            slice_ = members[first : first + FACTS_A_SCRIPT]
            groups.append(Group(owner, slice_, until_ms))
            size = self._group_sizes[at] = self._group_sizes.get(at, 0) + len(slice_)
            if size >= FACTS_A_SCRIPT:
                self._emit_lists(at)
                groups = self._groups.setdefault(at, [])
        await self._send_if_due()

    async def switch(self, user: bytes, on: bool) -> None:
        """Turn a Whitelist on or off."""
        self._facts += 1
        partition = self._writer.partition_of(self._app, user)
        switched = self._switched.setdefault(partition, {})
        # The last switch of a User counts.
        switched[user] = on
        if len(switched) >= FACTS_A_SCRIPT:
            self._emit_switches(partition)
            await self._send_if_due()

    async def register(
        self, user: bytes, name: str | None = None, portrait: str | None = None, at_ms: int | None = None
    ) -> None:
        """Register a User at a moment (default: now). A name or portrait of None leaves the present one."""
        self._facts += 1
        partition = self._writer.partition_of(self._app, user)
        registered = self._registered.setdefault(partition, {})
        registered[user] = Registration(user, self._now_ms if at_ms is None else at_ms, name, portrait)
        if len(registered) >= USERS_A_SCRIPT:
            self._emit_registrations(partition)
            await self._send_if_due()

    async def reserve(self, app: AppFacts, users: Sequence[bytes]) -> list[bytes]:
        """Reserve places for Users to register, if the App has a limit. Returns those without a place, to be left out."""
        return await self._users.quota.reserve_all(app, users, self._now_ms)

    async def flush(self) -> BulkResult:
        """Send everything that is queued, and wait until it is written."""
        for noun, partition in list(self._penalized):
            self._emit_penalties(noun, partition)
        for at in list(self._groups):
            self._emit_lists(at)
        for partition in list(self._switched):
            self._emit_switches(partition)
        for partition in list(self._registered):
            self._emit_registrations(partition)
        while self._ready:
            await self._send()
        while self._under_way:
            await self._under_way.popleft()
        revisions = tuple(self._newest[partition] for partition in sorted(self._newest))
        written = await self._writer.written(revisions, [self._taken_by[one.partition] for one in revisions])
        return BulkResult(self._facts, written, list(self._full))

    async def _penalize(self, noun: str, penalty: Penalty) -> None:
        self._facts += 1
        partition = self._writer.partition_of(self._app, penalty.user)
        gathered = self._penalized.setdefault((noun, partition), {})
        # A later one for the same User replaces it.
        gathered[penalty.user] = penalty
        if len(gathered) >= USERS_A_SCRIPT:
            self._emit_penalties(noun, partition)
            await self._send_if_due()

    def _emit_penalties(self, noun: str, partition: int) -> None:
        gathered = list(self._penalized.pop((noun, partition)).values())
        self._emit(self._penalties[noun].imposing(self._app, partition, gathered, "take"))

    def _emit_lists(self, at: tuple[ListKind, int]) -> None:
        kind, partition = at
        groups = self._groups.pop(at)
        # Absent if only `flush` emits the group.
        self._group_sizes.pop(at, None)

        def note_full(reply: Reply) -> None:
            for number, size, adding in refusals(reply):
                self._full.append(FullList(kind, groups[number].owner, size, adding))

        self._emit(self._lists.adding(self._app, kind, partition, groups, self._ceiling), note_full)

    def _emit_switches(self, partition: int) -> None:
        switched = self._switched.pop(partition)
        # One script call per value, since the value is an argument of the whole call.
        for on in (True, False):
            if users := [user for user, is_on in switched.items() if is_on is on]:
                self._emit(self._lists.switching(self._app, partition, users, on))

    def _emit_registrations(self, partition: int) -> None:
        registered = list(self._registered.pop(partition).values())
        self._emit(self._users.registering(partition, self._app, registered, refuse_deactivated=False))

    def _emit(self, step: Step, on_reply: Callable[[Reply], None] = lambda reply: None) -> None:
        self._ready.append((step, on_reply))

    async def _send_if_due(self) -> None:
        while len(self._ready) >= SCRIPTS_A_PIPELINE:
            await self._send()

    async def _send(self) -> None:
        while len(self._under_way) >= PIPELINES_UNDER_WAY:
            await self._under_way.popleft()
        # In order: facts about one User must not overtake each other.
        batch, self._ready = self._ready[:SCRIPTS_A_PIPELINE], self._ready[SCRIPTS_A_PIPELINE:]
        self._under_way.append(asyncio.get_running_loop().create_task(self._exchange(batch)))
        await asyncio.sleep(0)  # lets the task write its commands now, while the caller continues

    async def _exchange(self, batch: Sequence[tuple[Step, Callable[[Reply], None]]]) -> None:
        assert self._links, "a BulkWriter is used inside `async with`"
        groups: dict[Client, list[tuple[Step, Callable[[Reply], None]]]] = {}
        for each in batch:
            groups.setdefault(self._writer.client.master_of(keys.meta(each[0].partition)), []).append(each)
        # Masters in parallel; each keeps the order of its own scripts.
        await asyncio.gather(*(self._exchange_with(server, some) for server, some in groups.items()))

    async def _exchange_with(self, server: Client, batch: Sequence[tuple[Step, Callable[[Reply], None]]]) -> None:
        calls = [logged_call(self._app, step, self._now_ms) for step, _ in batch]
        link = self._links.get(server)
        if link is None:
            raise StoreUnavailable(f"a slot was moved to {server.address.shown} during the import", "unknown")
        try:
            replies = await link.exchange([call.by_sha for call in calls], BULK_DEADLINE_MS)
            # Only the unknown scripts are sent again, with their source; the others have run.
            if unknown := [at for at, reply in enumerate(replies) if is_noscript(reply)]:
                late = await link.exchange([calls[at].by_source for at in unknown], BULK_DEADLINE_MS)
                for at, reply in zip(unknown, late, strict=True):
                    replies[at] = reply
        except LinkLost as loss:
            raise StoreUnavailable(str(loss), "unknown") from None
        for reply in replies:
            raise_if_error(reply, "unknown")
        for (_, on_reply), reply in zip(batch, replies, strict=True):
            on_reply(reply)
        for revision in revisions_of([step for step, _ in batch], replies):
            self._newest[revision.partition] = revision
            self._taken_by[revision.partition] = link.server_id
