"""Nodes: the lease of a replicator, which shows that it is alive, and its announcements of what it has applied.

A lease is an entry in the registry, judged by its beats (`registry`). A node takes its lease before it reads the heads from
which it starts; `writer` depends on that order. Each renewal returns the whole registry. The node removes entries of nodes
that it has watched for a lease without a beat, and settles a marker that it has watched for a lease.

An id belongs to one node. If a data directory was copied, two nodes would announce under one id, and a write that one of them
applied would count as applied by both. So a lease names the run that holds it, and the place where that runs. A node that
starts in another place and sees the lease renewed has a rival, and stops. If two start at once, the newest run takes the
lease. The other one can't renew, so it is cut off (its facts become stale) and reports why.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from gate.clock import monotonic_ms, wall_ms
from gate.core.revision import Position
from gate.errors import StoreUnavailable
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.joins import Joining
from gate.store.registry import READ, BeatWatch, ListedNode, Registry, parse_registry
from gate.store.scripts import Call
from gate.store.subscription import Subscription

# How long a crashed node is waited for: several renewals, so that a single lost one has no effect.
LEASE_TTL_MS = 3_000


RIVAL_LOOK_EVERY_S = 0.1


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


class _Labels(NamedTuple):
    """Runs of servers at one moment: all that are concerned, that of the registry, and on a Cluster the Partitions of each."""

    server_id: str
    registry_at: str
    servers: dict[str, list[int]]


class NodeAnnouncer:
    """Announcements and lease of one node, used by its replicator. Every method may raise `StoreUnavailable`.

    `place` is a word without "-" for the data directory: the same after a `kill -9`, another one for a copy. `owns_server`: the
    server serves only this data directory, so an undamaged list is complete from the start. `partitions`: the number of
    Partitions, which nodes need on a Cluster.
    """

    def __init__(
        self,
        client: Client,
        node: str,
        place: str = "",
        lease_ttl_ms: int = LEASE_TTL_MS,
        *,
        owns_server: bool = False,
        partitions: int = 0,
    ) -> None:
        self._client = client
        self.joining = Joining(client, partitions, lease_ttl_ms) if client.address.seeds else None
        self._keys = [keys.NODES, *map(keys.meta, range(partitions))]
        self._node = node
        self._place = place
        self._lease_ttl_ms = lease_ttl_ms
        self._owns_server = owns_server
        # Unique per process, but with a comparable place.
        self._run = f"{place}-{secrets.token_hex(8)}"
        self._beat = 0
        self._watch = BeatWatch()
        self._registry: Registry | None = None

    @property
    def server_id(self) -> str:
        """The run of the server that is connected now; on a Cluster, those of the registry and of each Partition, in order."""
        return self._labels(()).server_id

    @property
    def reached_at_ms(self) -> int:
        """When the last connection that reached it was begun."""
        return self._client.reached_at_ms

    @property
    def address_problem(self) -> str:
        """Why the last connection attempt failed; "" if it succeeded."""
        return self._client.address_problem

    async def serve_requests(self, asked: Callable[[], None]) -> None:
        """Until cancelled, call `asked` whenever a process requests the Positions of all nodes."""
        async with Subscription(self._client, keys.ASK_CHANNEL, lambda *_: asked()) as subscription:
            await subscription.keep()

    async def has_rival(self) -> bool:
        """Return whether a node in another place is alive under this id. Call it before the first `renew`.

        Returns as soon as that node renews. A node that died there is waited out for its lease. An earlier run in the same
        place is no rival.
        """
        watch = BeatWatch()
        seen: ListedNode | None = None
        while True:
            asked_ms = monotonic_ms()
            registry = parse_registry(await self._client.query(READ))
            listed = next((each for each in registry.nodes if each.node == self._node), None)
            if listed is None or listed.run.partition("-")[0] == self._place:
                return False
            # Its beat moved while we watched: it is alive.
            if seen is not None and listed != seen:
                return True
            seen = listed
            if any(watch.dead([listed], asked_ms)):
                return False
            watch.note(registry, monotonic_ms())
            await asyncio.sleep(RIVAL_LOOK_EVERY_S)

    async def renew(self, applied: Mapping[int, Position]) -> str:
        """Take or renew the lease, and announce all Positions, for writers that missed an announcement.

        Returns the run of the server that has the lease now.
        """
        # Read before the renewal: a reconnect in between must not relabel these Positions.
        labels = self._labels(applied)
        self._beat += 1
        granted, registry = await self.take_lease(str(self._beat))
        if not granted:
            raise StoreUnavailable(
                f"another node runs under this one's id, {self._node}: the data directory of one is a copy of the other's; "
                "delete the file node-id in it and start that node again"
            )
        self._watch.note(registry, monotonic_ms())
        self._registry = registry
        if self.joining is None:
            renewed_on = registry.server_id
            self._check(renewed_on)
            await self._publish(applied, labels)
            return renewed_on
        await self._publish(applied, labels)  # first: an unavailable master must not delay the others' writers
        taken_by = await self.joining.mark(registry)
        renewed_on = " ".join([registry.server_id, *taken_by.values()])
        self._check(renewed_on)
        return renewed_on

    def _check(self, renewed_on: str) -> None:
        if renewed_on != self.server_id:  # the connection's knowledge of its server is outdated
            self._client.reconnect("the server writes another history now")

    async def announce(self, applied: Mapping[int, Position], server_id: str | None = None) -> None:
        """Announce the Positions that moved, unless another run of the server is connected than `server_id`; None: any."""
        labels = self._labels(applied)
        if server_id in (None, labels.server_id):
            await self._publish(applied, labels)

    async def leave(self) -> None:
        """Release the lease. The node's facts must already be stale."""
        is_mine, _ = await self.take_lease("")
        if is_mine:
            await self._publish({}, self._labels(()), has_left=True)

    async def take_lease(self, beat: str) -> tuple[bool, Registry]:
        """Write the lease. Returns whether this run has it, and the registry. `beat` "" releases the lease."""
        asked_ms, last = monotonic_ms(), self._registry
        dead = self._watch.dead(last.nodes, asked_ms) if last else ()
        # The script removes an entry only if its value is still the same.
        removed = [part for each in dead if each.node != self._node for part in (each.field, each.packed)]
        settled = self._watch.incarnation_watched(asked_ms, self._lease_ttl_ms)
        args = [self._node, self._run, beat, self._lease_ttl_ms, wall_ms(), "" if last else "1", secrets.token_hex(8),
                settled, last.server_id if last else "", "1" if self._owns_server else "",
                "" if self.joining is None else "1", *removed]  # fmt: skip
        (reply,) = await self._client.write([Call(scripts.LEASE, [keys.NODES], args)])
        return reply[0] == b"1", parse_registry(reply[1:])

    def _labels(self, partitions: Iterable[int]) -> _Labels:
        """Return to whose history Positions belong now: one server's, or each Partition's master's."""
        if self.joining is None:
            server_id = self._client.server_id
            return _Labels(server_id, server_id, {})
        registry_at, *server_ids = self._client.server_ids(self._keys)
        servers: dict[str, list[int]] = {}
        for partition in partitions:
            servers.setdefault(server_ids[partition], []).append(partition)
        return _Labels(" ".join([registry_at, *server_ids]), registry_at, servers)

    async def _publish(self, applied: Mapping[int, Position], labels: _Labels, has_left: bool = False) -> None:
        incarnation = self._registry.incarnation if self._registry else ""
        _, registry_at, servers = labels
        places = {partition: (position.epoch, position.seq) for partition, position in applied.items()}
        announcement = Announcement(self._node, places, registry_at, incarnation, has_left, servers)
        await self._client.publish(keys.APPLIED_CHANNEL, pack_announcement(announcement))
