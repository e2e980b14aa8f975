"""Acknowledgement of writes: nodes announce what they have applied (`Announcer`), and a writer waits for that (`Acknowledger`).

An Acknowledger stores the newest announcement of each node, so one that came before the wait began counts as well. It waits for
the nodes that were listed when the write was in, for those that it heard within the last lease regardless of the list, and
always for its own node, because checks here are answered from there. It stops waiting for a node that gave its lease up, or
whose beat has not moved for a lease. After its connection was lost, it requests the Positions of all nodes.

An announcement counts only for writes to the same run of the server: a server that came back with older data assigns numbers
that were announced before to other writes. `all` is returned only if the list was complete when the write was in (`registry`),
and no node has since shown that the list was replaced.

If writes must survive more than the server's process (`durability`), that is checked in parallel. It adds a condition: a write
that is not durable enough in time is `pending`, however many nodes have applied it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from gate.clock import monotonic_ms
from gate.core.revision import Position
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.client import Client
from gate.store.durability import LOCAL, Durability, EachDurable
from gate.store.registry import LEASE_TTL_MS, BeatWatch, Registry
from gate.store.subscription import Subscription
from gate.store.writer import WriteReceipt

if TYPE_CHECKING:
    from gate.store.store import Store

Applied = Literal["all", "node", "pending"]

WAIT_MS = 1_000
# How often a wait reads which nodes are alive: rarely, since almost every wait ends within a few ms.
LOOK_AGAIN_MS = 250


class Announcement(msgspec.Struct, frozen=True, array_like=True):
    """A node's applied Positions, as published (msgpack array): Partition -> (epoch, seq).

    `server_id` is the run of the server to whose history these Positions belong. A server that came back with older data
    assigns the same numbers to other writes, and an earlier announcement must not count for those. `incarnation` is that of the
    registry at the node's last renewal. `has_left`: the node has given its lease up, and calls no facts fresh. `servers`: on a
    Cluster, the Partitions of each run of a server; `server_id` is then that of the registry.
    """

    node: str
    applied: dict[int, tuple[str, int]]
    server_id: str = ""
    incarnation: str = ""
    has_left: bool = False
    servers: dict[str, list[int]] = {}


pack_announcement = msgspec.msgpack.Encoder().encode
"""Encodes an `Announcement`."""
unpack_announcement = msgspec.msgpack.Decoder(Announcement).decode
"""Decodes one; raises `msgspec.DecodeError` for anything else that is published there."""


class Labels(NamedTuple):
    """Runs of servers at one moment: all that are concerned, that of the registry, and on a Cluster the Partitions of each."""

    server_id: str
    registry_at: str
    servers: dict[str, list[int]]


class Announcer:
    """Announces what one node has applied. `nodes.NodeAnnouncer` adds its lease."""

    def __init__(self, client: Client, node: str, partitions: int = 0) -> None:
        self._client = client
        self._node = node
        self._keys = [keys.NODES, *map(keys.meta, range(partitions))]
        self._incarnation = ""
        """Of the registry, at the last renewal."""

    @property
    def server_id(self) -> str:
        """The run of the server that is connected now; on a Cluster, those of the registry and of each Partition, in order."""
        return self._labels(()).server_id

    async def announce(
        self,
        applied: Mapping[int, Position],
        server_id: str | None = None,
        labels: Labels | None = None,
        *,
        has_left: bool = False,
    ) -> None:
        """Announce Positions, unless another run of the server is connected than `server_id`; None: any.

        They belong to the runs of `labels`; None: to those that are connected now. Raises `StoreUnavailable`.
        """
        connected, registry_at, servers = labels or self._labels(applied)
        if server_id not in (None, connected):
            return
        places = {partition: (position.epoch, position.seq) for partition, position in applied.items()}
        announcement = Announcement(self._node, places, registry_at, self._incarnation, has_left, servers)
        await self._client.publish(keys.APPLIED_CHANNEL, pack_announcement(announcement))

    def _labels(self, partitions: Iterable[int]) -> Labels:
        """Return to whose history Positions belong now: one server's, or each Partition's master's."""
        if not self._client.address.seeds:
            server_id = self._client.server_id
            return Labels(server_id, server_id, {})
        registry_at, *server_ids = self._client.server_ids(self._keys)
        servers: dict[str, list[int]] = {}
        for partition in partitions:
            servers.setdefault(server_ids[partition], []).append(partition)
        return Labels(" ".join([registry_at, *server_ids]), registry_at, servers)


class Acknowledged(NamedTuple):
    """How far a write got in time. `late` describes the durability that it has not reached; "" if it has."""

    applied: Applied
    late: str = ""


class _Heard(NamedTuple):
    """The last announcement of one node."""

    server_id: str
    applied: dict[int, tuple[str, int, str]]
    """Partition -> epoch, seq, and the run of the server to whose history that position belongs."""
    registry: str
    at_ms: int
    """On the monotonic clock; also updated when a beat is seen to move."""


_NOTHING_HEARD = _Heard("", {}, "", -LEASE_TTL_MS)


class _Shown(NamedTuple):
    """What an announcement shows of a write."""

    has: bool
    """The node has applied it."""
    is_list_replaced: bool
    """The node has renewed its lease in another list than the one that was read after the write."""


class _Wait:
    """One write, and the nodes that have not announced it yet."""

    __slots__ = ("arrival", "began_ms", "is_certain", "nodes", "written")

    def __init__(self, written: WriteReceipt, nodes: set[str], is_certain: bool, arrival: asyncio.Future[None]) -> None:
        self.written = written
        self.nodes = nodes
        self.is_certain = is_certain
        self.arrival = arrival
        self.began_ms = monotonic_ms()

    def drop(self, node: str) -> None:
        """Stop waiting for this node."""
        self.nodes.discard(node)
        if not self.nodes and not self.arrival.done():
            self.arrival.set_result(None)


class Acknowledger:
    """Listens from `start` to `aclose`; shared by all writers of a process."""

    def __init__(self, store: Store, node: str | None, durability: Durability = LOCAL) -> None:
        self._store = store
        self._node = node
        self.heard: dict[str, _Heard] = {}
        self._waits: defaultdict[str, set[_Wait]] = defaultdict(set)
        self.subscription = Subscription(store.client, keys.APPLIED_CHANNEL, self._hear, self._ask_all)
        self._listening: asyncio.Task[None] | None = None
        self._watch = BeatWatch()
        self._looked: tuple[Registry, frozenset[str]] | None = None
        self._looked_at_ms = -1
        self._looking = asyncio.Lock()
        self._durable = None if durability.level == "local" else EachDurable(store.client, durability)

    async def start(self) -> None:
        """Subscribe, and stay subscribed. Raises `StoreUnavailable` if the server is away now; later losses are repaired."""
        await self.subscription.begin()
        self._listening = asyncio.get_running_loop().create_task(self.subscription.keep())

    async def aclose(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self.subscription.aclose()
        if self._durable is not None:
            await self._durable.aclose()

    @property
    def waiting(self) -> int:
        """How many writes wait for a node."""
        return len({wait for waits in self._waits.values() for wait in waits})

    async def acknowledge(self, written: WriteReceipt, timeout_ms: int = WAIT_MS) -> Acknowledged:
        """Return how far the write got in time, and what its durability lacks. Never raises."""
        if self._durable is None:
            return Acknowledged(await self.wait(written, timeout_ms))
        asked = self._durable.ask(written, timeout_ms)  # first, so that both waits run in parallel
        try:
            applied = await self.wait(written, timeout_ms)
            late = await self._durable.outcome(asked)
        finally:
            await self._durable.forget(asked)
        return Acknowledged("pending" if late else applied, late)

    async def wait(self, written: WriteReceipt, timeout_ms: int = WAIT_MS) -> Applied:
        """Wait for the nodes only. Returns `all` if all live ones applied the write, `node` for this one, else `pending`."""
        # A node heard within a lease may be alive although the list lacks it.
        recently_ms = monotonic_ms() - LEASE_TTL_MS
        heard = {node for node, heard in self.heard.items() if heard.at_ms > recently_ms}
        asked = written.live_nodes | heard | ({self._node} if self._node else set())
        shown = {node: self._shows(node, written) for node in asked}
        is_certain = bool(written.registry) and not any(shown[node].is_list_replaced for node in heard)
        # Often empty: the announcement may arrive before the reply to the write.
        nodes = {node for node in asked if not shown[node].has}
        if nodes:
            wait = _Wait(written, nodes, is_certain, asyncio.get_running_loop().create_future())
            # Registered for all asked nodes, since one that has the write may still reveal that the list was replaced.
            for node in asked:
                self._waits[node].add(wait)
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await self._settle(wait)
            except TimeoutError:
                pass  # what was heard until now decides
            finally:
                self._forget(wait, asked)
            is_certain = wait.is_certain
        if not nodes and is_certain:
            return "all"
        return "node" if self._node and self._node not in nodes else "pending"

    async def _settle(self, wait: _Wait) -> None:
        while not wait.arrival.done():
            # Wakes on each announcement, or to look for dead nodes.
            await asyncio.wait([wait.arrival], timeout=LOOK_AGAIN_MS / 1000)
            if wait.arrival.done() or (looked := await self._looked_since(wait.began_ms)) is None:
                continue
            registry, live = looked
            # The list was lost and begun again since the write.
            if wait.is_certain and registry.complete != wait.written.registry:
                wait.is_certain = False
            recently_ms = monotonic_ms() - LEASE_TTL_MS
            for node in wait.nodes - live - {self._node or ""}:
                if self.heard.get(node, _NOTHING_HEARD).at_ms <= recently_ms:
                    wait.drop(node)

    async def _looked_since(self, began_ms: int) -> tuple[Registry, frozenset[str]] | None:
        """Return the registry and the live nodes, read after `began_ms`. Waits that overlap share one read.

        None if Redis is away. An older read is insufficient: it may lack a node that took its lease just before the write.
        """
        async with self._looking:
            # Another wait may have read the list while this one waited for the lock. A read that began in the same millisecond
            # as this wait may be from before the write.
            if self._looked_at_ms <= max(began_ms, monotonic_ms() - LOOK_AGAIN_MS):
                asked_ms = monotonic_ms()
                try:
                    registry = await self._store.writer.registry()
                except StoreUnavailable:
                    return None
                dead = {listed.node for listed in self._watch.dead(registry.nodes, asked_ms)}
                now_ms = monotonic_ms()
                for node in self._watch.note(registry, now_ms):
                    self.heard[node] = self.heard.get(node, _NOTHING_HEARD)._replace(at_ms=now_ms)
                self._looked = registry, registry.live - dead
                self._looked_at_ms = asked_ms
            return self._looked

    def _forget(self, wait: _Wait, nodes: frozenset[str]) -> None:
        for node in nodes:
            waits = self._waits[node]
            waits.discard(wait)
            if not waits:
                del self._waits[node]

    def _shows(self, node: str, written: WriteReceipt) -> _Shown:
        """Return what the last announcement of a node shows of a write."""
        server_id, applied, registry, _ = self.heard.get(node, _NOTHING_HEARD)
        is_same_server = server_id == written.server_id
        has = bool(written.revisions) or is_same_server
        for number, (partition, epoch, seq) in enumerate(written.revisions):
            at = applied.get(partition)
            server = written.server_of(number)
            # A server that neither side knows is no match.
            if not server or at is None or at[0] != epoch or at[1] < seq or at[2] != server:
                has = False
        return _Shown(has, is_list_replaced=is_same_server and registry not in ("", written.registry))

    def _hear(self, _: bytes, packed: bytes) -> None:
        try:
            announcement = unpack_announcement(packed)
        except msgspec.DecodeError:
            return  # any client may publish there
        node = announcement.node
        if announcement.has_left:
            # The next read of the list ends the waits: another run of the node may have taken the lease.
            self.heard.pop(node, None)
            self._store.writer.forget_registry()
            return
        known = self.heard.get(node, _NOTHING_HEARD)
        server_id, applied = announcement.server_id, known.applied.copy()
        server_of = {partition: run for run, some in announcement.servers.items() for partition in some}
        # An announcement has only the Positions that moved.
        for partition, (epoch, seq) in announcement.applied.items():
            applied[partition] = epoch, seq, server_of.get(partition, "") if server_of else server_id
        self.heard[node] = _Heard(server_id, applied, announcement.incarnation, monotonic_ms())
        for wait in tuple(self._waits.get(node, ())):
            shown = self._shows(node, wait.written)
            if shown.is_list_replaced:
                wait.is_certain = False
            if shown.has:
                wait.drop(node)

    async def _ask_all(self) -> None:
        """Announcements may have been missed, so request the Positions of every node."""
        await self._store.client.publish(keys.ASK_CHANNEL, b"")
