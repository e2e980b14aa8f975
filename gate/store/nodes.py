"""Nodes: the lease by which a replicator says that it lives, and the announcements of what it has applied.

A lease is an entry in the registry, judged by its beats (`registry`). A node takes its lease before it reads the heads that it
starts from; `writer` depends on that order. With each renewal it sees the whole registry: it removes the entries of nodes that
it has watched for a lease without a beat, and settles the marker that it has watched for a lease.

An id is one node's. Where a data directory was copied, two would announce under it, and a write that one of them applied would
count as applied by both. So a lease names the run that holds it, and the place where that runs; who starts in another place and
sees the lease renewed has a rival, and goes no further. Of two that start at once, the newest run takes the lease; the other
one, which can't renew, is cut off (its facts show as stale) and says why.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping

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

LEASE_TTL_MS = 3_000
"""How long a node that died without a word is waited for; several renewals, so that one lost one costs nothing."""


RIVAL_LOOK_EVERY_S = 0.1


class Announcement(msgspec.Struct, frozen=True, array_like=True):
    """What one node has applied, as published (msgpack array): Partition -> (epoch, seq).

    `server_id` is the run of the server whose history these are Positions of: one that came back with older data gives the
    same numbers to other writes, and an announcement from before must not pass for theirs. `incarnation` is that of the
    registry at the node's last renewal. `has_left`: the node has given its lease up, and calls nothing fresh. `servers`: on a
    Cluster, the Partitions of each run of a server; `server_id` is then that of the registry.
    """

    node: str
    applied: dict[int, tuple[str, int]]
    server_id: str = ""
    incarnation: str = ""
    has_left: bool = False
    servers: dict[str, list[int]] = {}

    def applied_on(self) -> dict[int, tuple[str, int, str]]:
        """What is applied, with the run of the server that each Position is of."""
        if not self.servers:
            return {partition: (*place, self.server_id) for partition, place in self.applied.items()}
        server_of = {partition: server_id for server_id, some in self.servers.items() for partition in some}
        return {partition: (*place, server_of.get(partition, "")) for partition, place in self.applied.items()}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Announcement)


class NodeAnnouncer:
    """One node's voice; the replicator's. Every method raises `StoreUnavailable`.

    `place` is a word without "-" for the data directory that it runs in: the same after a `kill -9`, another one of a copy.
    `owns_server`: the server serves this data directory only, so a list that lost nothing names every node from the start.
    `partitions`: how many the deployment has, which a Cluster's nodes need to know.
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
        self._joining = Joining(client, partitions, lease_ttl_ms) if client.address.seeds else None
        self._keys = [keys.NODES, *map(keys.meta, range(partitions))]
        self._node = node
        self._place = place
        self._lease_ttl_ms = lease_ttl_ms
        self._owns_server = owns_server
        self._run = f"{place}-{secrets.token_hex(8)}"
        self._beat = 0
        self._watch = BeatWatch()
        self._registry: Registry | None = None

    @property
    def server_id(self) -> str:
        """Which run of the server is connected now; on a Cluster, those of the registry and of each Partition, in order."""
        return self._client.server_id if self._joining is None else " ".join(self._client.server_ids(self._keys))

    @property
    def reached_at_ms(self) -> int:
        """When a connection was begun that reached it, last."""
        return self._client.reached_at_ms

    @property
    def address_problem(self) -> str:
        """Why none could be made last; "" if it could."""
        return self._client.address_problem

    async def heed(self, asked: Callable[[], None]) -> None:
        """Until cancelled, call `asked` whenever a process asks all nodes for their Positions."""
        async with Subscription(self._client, keys.ASK_CHANNEL, lambda message: asked()) as subscription:
            await subscription.keep()

    async def has_rival(self) -> bool:
        """Whether a node in another place lives under this id; ask before the first `renew`.

        Known as soon as that node renews. One that died there is waited out for its lease; an earlier run in the same place is
        no rival.
        """
        watch = BeatWatch()
        seen: ListedNode | None = None
        while True:
            asked_ms = monotonic_ms()
            registry = parse_registry(await self._client.query(READ))
            listed = next((each for each in registry.nodes if each.node == self._node), None)
            if listed is None or listed.run.partition("-")[0] == self._place:
                return False
            if seen is not None and listed != seen:
                return True
            seen = listed
            if any(watch.dead([listed], asked_ms)):
                return False
            watch.note(registry, monotonic_ms())
            await asyncio.sleep(RIVAL_LOOK_EVERY_S)

    async def renew(self, applied: Mapping[int, Position]) -> str:
        """Take or renew the lease, and say all Positions, for writers that missed an announcement.

        Answers which run of the server has the lease now.
        """
        labels = self._labels(applied)
        self._beat += 1
        granted, registry = await self._lease(str(self._beat))
        if not granted:
            raise StoreUnavailable(
                f"another node runs under this one's id, {self._node}: the data directory of one is a copy of the other's; "
                "delete the file node-id in it and start that node again"
            )
        self._watch.note(registry, monotonic_ms())
        self._registry = registry
        if self._joining is None:
            renewed_on = registry.server_id
            self._check(renewed_on)
            await self._publish(applied, labels)
            return renewed_on
        await self._publish(applied, labels)  # first: that one master is away must not keep it from the others' writers
        taken_by = await self._joining.mark(registry)
        renewed_on = " ".join([registry.server_id, *taken_by.values()])
        self._check(renewed_on)
        return renewed_on

    def _check(self, renewed_on: str) -> None:
        if renewed_on != self.server_id:  # what a connection said of its server when it was made holds no longer
            self._client.reconnect("the server writes another history now")

    async def announce(self, applied: Mapping[int, Position]) -> None:
        """Say the Positions that moved."""
        await self._publish(applied, self._labels(applied))

    async def leave(self) -> None:
        """Give the lease up. The node's facts must not be fresh any more."""
        is_mine, _ = await self._lease("")
        if is_mine:
            await self._publish({}, self._labels(()), has_left=True)

    async def _lease(self, beat: str) -> tuple[bool, Registry]:
        """Whether this run has the lease, and the registry after it. `beat` "" gives the lease up."""
        asked_ms, last = monotonic_ms(), self._registry
        dead = self._watch.dead(last.nodes, asked_ms) if last else ()
        removed = [part for each in dead if each.node != self._node for part in (each.field, each.packed)]
        settled = self._watch.incarnation_watched(asked_ms, self._lease_ttl_ms)
        args = [self._node, self._run, beat, self._lease_ttl_ms, wall_ms(), "" if last else "1", secrets.token_hex(8),
                settled, last.server_id if last else "", "1" if self._owns_server else "",
                "" if self._joining is None else "1", *removed]  # fmt: skip
        (reply,) = await self._client.write([Call(scripts.LEASE, [keys.NODES], args)])
        return reply[0] == b"1", parse_registry(reply[1:])

    def _labels(self, partitions: Iterable[int]) -> tuple[str, dict[str, list[int]]]:
        """Whose history Positions are of now: one server's, or each Partition's master's."""
        if self._joining is None:
            return self._client.server_id, {}
        registry_at, *server_ids = self._client.server_ids(self._keys)
        servers: dict[str, list[int]] = {}
        for partition in partitions:
            servers.setdefault(server_ids[partition], []).append(partition)
        return registry_at, servers

    async def _publish(
        self, applied: Mapping[int, Position], labels: tuple[str, dict[str, list[int]]], has_left: bool = False
    ) -> None:
        incarnation = self._registry.incarnation if self._registry else ""
        server_id, servers = labels
        packed = pack_announcement(self._node, applied, server_id, incarnation, has_left, servers)
        await self._client.publish(keys.APPLIED_CHANNEL, packed)


def pack_announcement(
    node: str,
    applied: Mapping[int, Position],
    server_id: str,
    incarnation: str = "",
    has_left: bool = False,
    servers: dict[str, list[int]] | None = None,
) -> bytes:
    """What `unpack_announcement` reads."""
    places = {partition: (position.epoch, position.seq) for partition, position in applied.items()}
    return _encoder.encode(Announcement(node, places, server_id, incarnation, has_left, servers or {}))


def unpack_announcement(packed: bytes) -> Announcement | None:
    """The announcement; None for anything else that somebody may publish there."""
    try:
        return _decoder.decode(packed)
    except msgspec.DecodeError:
        return None
