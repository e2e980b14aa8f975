"""Runs writes: one script for each Partition that is touched, in one pipeline, and their receipt; and who makes them.

The registry of nodes is read after the scripts on the same connection. A node takes its lease before it reads the heads from
which it starts, so a node missing from that answer will read this write with its heads. No live node is overlooked, unless the
registry itself lost some, which its marker reveals. On a Redis Cluster, where the registry is on another master, a mark in
each Partition replaces that order (`joins`).

The audit has the `Attribution` that a caller gives of itself, and the `Origin` that Gate found out. The origin is set once
where a request is authenticated, a command begins or a role starts, and read where an audit entry is made. A request is a task
of its own, and tasks that it starts inherit the value. So no write on the way can leave it out or choose another.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Literal, NamedTuple, cast, get_args
from zlib import crc32

from gate.core.revision import REVISION_FORM, Revision, app_crc, partition_of
from gate.errors import InvalidInput
from gate.store import keys
from gate.store.client import Client
from gate.store.joins import RecentRegistry, mark_of, reading
from gate.store.link import Reply
from gate.store.registry import READ, Registry, parse_registry
from gate.store.scripts import Call, Script

# Approximate length of a Partition's Changelog: at 1,000 Changes/s over 16 Partitions, a follower may be away four minutes.
LOG_MAX_ENTRIES = 16_384
# A script occupies the server for about a microsecond per id; larger writes use `bulk`, in bounded scripts.
MAX_IDS_A_CALL = 10_000
# Bytes of a write's id, of which the number of the Change in its write is the rest; and of an epoch.
_WRITE_ID_BYTES, _EPOCH_BYTES = 6, 8

OriginKind = Literal["app", "key", "operator", "user", "cli", "node", "unknown"]
"""`app`: by the App's own secret; `key`: by one of its keys; `cli`: a command, by the operating system's user; `unknown`: an
entry of a version that did not record it."""
ORIGIN_KINDS: frozenset[str] = frozenset(get_args(OriginKind))


class WriteReceipt(NamedTuple):
    """The receipt of a write: its Revisions, the nodes that were listed when it was in, and the run of the server that took it.

    `registry` is the incarnation of a list that certainly has every node that may call its facts fresh; "" if one may be
    missing, as after Redis lost its data. On a Cluster, `server_id` is the server of the list, and `servers` has the one that
    took each of `revisions`; "" if unknown.
    """

    revisions: tuple[Revision, ...]
    live_nodes: frozenset[str]
    server_id: str
    registry: str
    servers: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The Revisions as callers get them: at most one for each Partition, the newest, in order of Partition."""
        newest: dict[int, Revision] = {}
        for revision in self.revisions:
            known = newest.get(revision.partition)
            if known is None or revision.seq >= known.seq:
                newest[revision.partition] = revision
        return ",".join([REVISION_FORM % newest[partition] for partition in sorted(newest)])

    def server_of(self, number: int) -> str:
        """Return which run of which server took the Revision of that number."""
        return self.servers[number] if self.servers else self.server_id


class Attribution(NamedTuple):
    """The actor and the reason of a write, as given by the caller; for the audit, next to its `Origin`."""

    by: str = ""
    why: str = ""


UNEXPLAINED = Attribution()


class Origin(NamedTuple):
    """Who, and where it came from: the id of the HTTP request and its address, "" without a request."""

    kind: OriginKind
    name: str
    request_id: str = ""
    address: str = ""


UNKNOWN = Origin("unknown", "")
ORIGIN: ContextVar[Origin] = ContextVar("origin", default=UNKNOWN)


class Step(NamedTuple):
    """One script's run in one Partition: its own keys and arguments, between those of every write.

    `attribution` None keeps the step out of the audit: housekeeping, imports, and steps that are not a decision of a caller.
    """

    partition: int
    script: Script
    keys: Sequence[bytes]
    args: Sequence[bytes | str | int]
    attribution: Attribution | None = None


class Writer:
    """Converts steps into calls and replies into Revisions."""

    def __init__(self, client: Client, partitions: int) -> None:
        self.client = client
        self.partitions = partitions
        self._recent = RecentRegistry(client) if client.address.seeds else None
        self._listed: Reply = None
        """The registry as it was read last."""
        self._receipt = WriteReceipt((), frozenset(), "", "")
        """Of a write without Revisions, by that registry."""

    def partition_of(self, app: str, user: bytes) -> int:
        """Return the Partition of a User of this deployment."""
        return partition_of(app, user, self.partitions)

    def by_partition(self, app: str, users: Iterable[bytes]) -> dict[int, list[bytes]]:
        """Group Users by Partition, each once, in the order given. Raises `InvalidInput` past `MAX_IDS_A_CALL`."""
        grouped: dict[int, list[bytes]] = defaultdict(list)
        # Keeps the order of the first occurrence.
        unique = dict.fromkeys(users)
        if len(unique) > MAX_IDS_A_CALL:
            raise InvalidInput("users", f"at most {MAX_IDS_A_CALL} in one call, {len(unique)} were sent")
        crc, partitions = app_crc(app), self.partitions
        # As `partition_of`, without a call for each of many.
        for user in unique:
            grouped[crc32(user, crc) % partitions].append(user)
        return grouped

    async def write(self, app: str, steps: Sequence[Step], now_ms: int) -> tuple[WriteReceipt, list[Reply]]:
        """Run the steps. A reply that begins with a word is a refusal, which the caller interprets.

        Raises `StoreUnavailable`.
        """
        calls = [logged_call(app, step, now_ms) for step in steps]
        if self._recent is not None:
            return await self._write_to_masters(self._recent, steps, calls)
        # On the same connection, so the list is at least as new as the writes.
        *replies, listed = await self.client.write(calls, behind=[READ])
        # It changes only when a lease is taken or renewed, so most writes find what was parsed before.
        if listed != self._listed:
            self._receipt, self._listed = written_of((), parse_registry(listed)), listed
        return self._receipt._replace(revisions=revisions_of(steps, replies)), replies

    async def written(self, revisions: Sequence[Revision], servers: Sequence[str]) -> WriteReceipt:
        """Return the receipt of writes made over other connections to these runs of servers. Raises `StoreUnavailable`."""
        if self._recent is None:
            return _of_servers(written_of(tuple(revisions), await self.registry()), servers)
        replies = await self.client.query_each(reading(revision.partition for revision in revisions))
        marks = [mark_of(reply) for reply in replies]
        registry = await self._recent.proven(marks)
        written = written_of(tuple(revisions), registry)._replace(servers=tuple(mark.server_id for mark in marks))
        return _of_servers(written, servers)

    async def registry(self) -> Registry:
        """Return the registry of nodes now. Raises `StoreUnavailable`."""
        return parse_registry(await self.client.query(READ))

    def forget_registry(self) -> None:
        """A node has left: the next write must not wait for it."""
        if self._recent is not None:
            self._recent.forget()

    async def live_nodes(self) -> frozenset[str]:
        """Return the nodes that hold a lease, or did until recently. Raises `StoreUnavailable`."""
        return (await self.registry()).live

    async def _write_to_masters(
        self, recent: RecentRegistry, steps: Sequence[Step], calls: Sequence[Call]
    ) -> tuple[WriteReceipt, list[Reply]]:
        partitions = list(dict.fromkeys(step.partition for step in steps))
        writing = self.client.write(calls, behind=reading(partitions))
        if recent.is_recent:
            answers = await writing
        else:
            # The registry is read in parallel, since the marks prove its completeness.
            answers, _ = await asyncio.gather(writing, recent.recent())
        replies, marks = answers[: len(calls)], [mark_of(reply) for reply in answers[len(calls) :]]
        revisions, registry = revisions_of(steps, replies), await recent.proven(marks)
        taken_by = {partition: mark.server_id for partition, mark in zip(partitions, marks, strict=True)}
        servers = tuple(taken_by[revision.partition] for revision in revisions)
        return written_of(revisions, registry)._replace(servers=servers), replies


def _of_servers(written: WriteReceipt, servers: Sequence[str]) -> WriteReceipt:
    """Return the receipt with the runs that took the Revisions; nothing is certain if other runs answer now."""
    if all(written.server_of(number) == server for number, server in enumerate(servers)):
        return written
    if written.servers:
        return written._replace(servers=tuple(servers), registry="")
    return written._replace(server_id=next(iter(servers), ""), registry="")


def written_of(revisions: tuple[Revision, ...], registry: Registry) -> WriteReceipt:
    """Return the receipt of writes, with the registry that was read after them on the same connection."""
    return WriteReceipt(revisions, registry.live, registry.server_id, registry.complete)


def logged_call(app: str, step: Step, now_ms: int) -> Call:
    """Return the call of a script that includes `lua/lib/append.lua`, with the keys and arguments that it reads."""
    partition, (by, why) = step.partition, step.attribution or UNEXPLAINED
    drawn = os.urandom(_EPOCH_BYTES + _WRITE_ID_BYTES).hex()
    return Call(
        step.script,
        [keys.meta(partition), keys.log(partition), *step.keys, keys.audit(partition, app)],
        [now_ms, drawn[: 2 * _EPOCH_BYTES], drawn[2 * _EPOCH_BYTES :], LOG_MAX_ENTRIES, app, *step.args,
         "" if step.attribution is None else "1", by, why, packed_origin()],
    )  # fmt: skip


def packed_origin() -> str:
    """Return the field of an audit entry. The name is last: it may hold anything, the others no space."""
    kind, name, request_id, address = ORIGIN.get()
    return f"{kind} {request_id} {address} {name}"


def unpacked_origin(packed: bytes | None) -> Origin:
    """Return what an entry's field says; `UNKNOWN` for an entry without it."""
    if packed is None:
        return UNKNOWN
    kind, request_id, address, name = packed.decode().split(" ", 3)
    return Origin(cast("OriginKind", kind) if kind in ORIGIN_KINDS else "unknown", name, request_id, address)


def joined(writes: Iterable[WriteReceipt]) -> WriteReceipt | None:
    """Combine several writes, given in order, into one that is effective when all are; None for none.

    If two writes to a Partition belong to different histories (another run of the server, or another epoch), the earlier one
    may be lost although the later one is applied. The receipt then names no server for that Partition: no node confirms it.
    """
    newest: dict[int, Revision] = {}
    taken_by: dict[int, str] = {}
    live_nodes: frozenset[str] = frozenset()
    server_id, registry, is_cluster = None, None, False
    for written in writes:
        is_cluster = is_cluster or bool(written.servers)
        for number, revision in enumerate(written.revisions):
            partition, server = revision.partition, written.server_of(number)
            known = newest.setdefault(partition, revision)
            if known.epoch != revision.epoch or taken_by.setdefault(partition, server) != server:
                taken_by[partition] = ""
            elif known.seq < revision.seq:
                newest[partition] = revision
        live_nodes |= written.live_nodes
        server_id = written.server_id
        # Only certain if all writes saw the same list.
        registry = written.registry if registry in (None, written.registry) else ""
    if server_id is None:
        return None
    is_one_run = not is_cluster and set(taken_by.values()) <= {server_id}
    servers = () if is_one_run else tuple(taken_by[partition] for partition in newest)
    return WriteReceipt(tuple(newest.values()), live_nodes, server_id, registry or "", servers)


def revisions_of(steps: Sequence[Step], replies: Sequence[Reply]) -> tuple[Revision, ...]:
    """Return the Revisions among replies, in the order of steps."""
    return tuple(
        Revision(step.partition, reply[1].decode(), reply[0])
        for step, reply in zip(steps, replies, strict=True)
        # A refusal begins with a word instead of a number.
        if isinstance(reply[0], int)
    )
