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
from collections.abc import Callable, Mapping

from gate.clock import monotonic_ms, wall_ms
from gate.core.revision import Position
from gate.errors import StoreUnavailable
from gate.store import keys, scripts
from gate.store.acks import Announcer
from gate.store.client import Client
from gate.store.joins import Joining
from gate.store.registry import LEASE_TTL_MS, READ, BeatWatch, ListedNode, Registry, parse_registry
from gate.store.scripts import Call
from gate.store.subscription import Subscription

RIVAL_LOOK_EVERY_S = 0.1


class NodeAnnouncer(Announcer):
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
        super().__init__(client, node, partitions)
        self.joining = Joining(client, partitions, lease_ttl_ms) if client.address.seeds else None
        self._place = place
        self._lease_ttl_ms = lease_ttl_ms
        self._owns_server = owns_server
        # Unique per process, but with a comparable place.
        self._run = f"{place}-{secrets.token_hex(8)}"
        self._beat = 0
        self._watch = BeatWatch()
        self._registry: Registry | None = None

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
        self._registry, self._incarnation = registry, registry.incarnation
        if self.joining is None:
            renewed_on = registry.server_id
            self._check(renewed_on)
            await self.announce(applied, labels=labels)
            return renewed_on
        await self.announce(applied, labels=labels)  # first: an unavailable master must not delay the others' writers
        taken_by = await self.joining.mark(registry)
        renewed_on = " ".join([registry.server_id, *taken_by.values()])
        self._check(renewed_on)
        return renewed_on

    def _check(self, renewed_on: str) -> None:
        if renewed_on != self.server_id:  # the connection's knowledge of its server is outdated
            self._client.reconnect("the server writes another history now")

    async def leave(self) -> None:
        """Release the lease. The node's facts must already be stale."""
        is_mine, _ = await self.take_lease("")
        if is_mine:
            await self.announce({}, has_left=True)

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
