"""The nodes that a write to a Redis Cluster must wait for, although the registry is on another master than the facts.

On a single server the registry is read after the write. Here it is read concurrently, or was read up to `REGISTRY_KEPT_MS`
ago. A node that took its lease after that read may be missing, and may have read the Partition's head before the write.
Therefore:

- The registry counts joins: a lease that is taken, not only renewed, gets the next number.
- Before a node reads a head, it marks the Partition with the registry's number (`lua/join.lua`).
- After each write, in the same Partition and on the same connection, the mark is read (`lua/joined.lua`).

If the mark's number is not higher than that of the registry that was read, no node missing from that registry had read the head
before the write. If it is higher, the registry is read again. A mark counts only once it is *settled*: it names the run of the
server and the registry's incarnation, and a node has seen that same mark for a whole lease (docs/decisions/0017). Used by
`writer` and `nodes`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gate.clock import monotonic_ms
from gate.errors import StoreUnavailable
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.link import Reply
from gate.store.registry import READ, Registry, parse_registry
from gate.store.scripts import Call

# A node that died or left is waited for this much longer. A busy writer reads the registry ten times a second.
REGISTRY_KEPT_MS = 100
_UNREAD = Registry("", "", False, ())


class Mark(NamedTuple):
    """A Partition's mark of the nodes that joined, and the run of the server that returned it."""

    server_id: str
    of_server: str = ""
    is_settled: bool = False
    incarnation: str = ""
    number: int = 0
    nonce: str = ""

    @property
    def watched(self) -> str:
        """The mark to settle after a lease of watching; "" for a settled one, or one of another run."""
        return (
            ""
            if self.is_settled or self.of_server != self.server_id
            else f"{self.of_server} {self.incarnation} {self.nonce}"
        )

    def proves(self, registry: Registry) -> bool:
        """Return whether this registry has every node that may know the Partition's head and call its facts fresh."""
        return (
            self.is_settled
            and self.of_server == self.server_id
            and self.incarnation == registry.complete
            and self.number <= registry.joins
        )


def mark_of(reply: Reply) -> Mark:
    """Parse the reply of either script; None is the reply of a script that did not run."""
    if reply is None:
        return Mark("")
    server_id, mark = (part.decode() for part in reply)
    if not mark:
        return Mark(server_id)
    of_server, settled, incarnation, number, nonce = mark.split(" ")
    return Mark(server_id, of_server, settled == "1", incarnation, int(number), nonce)


def reading(partitions: Iterable[int]) -> list[Call]:
    """Return the calls to run after writes to these Partitions."""
    return [Call(scripts.JOINED, [keys.meta(partition)], []) for partition in partitions]


class RecentRegistry:
    """The registry as last read, for the writers of a process."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._registry = _UNREAD
        self._read_at_ms = -REGISTRY_KEPT_MS
        self._reading = asyncio.Lock()

    @property
    def is_recent(self) -> bool:
        """Whether `recent` returns without a read."""
        return monotonic_ms() - self._read_at_ms < REGISTRY_KEPT_MS

    async def recent(self) -> Registry:
        """Return a recent registry. Never raises: if its master is away, the last known nodes, without proof."""
        async with self._reading:
            return self._registry if self.is_recent else await self._read()

    async def fresh(self) -> Registry:
        """Return the registry read after this call began. Never raises, see `recent`."""
        async with self._reading:
            return await self._read()

    def forget(self) -> None:
        """A node has left: the next writer reads the registry again."""
        self._read_at_ms = -REGISTRY_KEPT_MS

    async def _read(self) -> Registry:
        # Dated before the request: the reply may be older than its arrival.
        asked_at_ms = monotonic_ms()
        try:
            self._registry = parse_registry(await self._client.query(READ))
        except StoreUnavailable:
            self._registry = self._registry._replace(incarnation="", is_settled=False)
        self._read_at_ms = asked_at_ms
        return self._registry

    async def proven(self, marks: Sequence[Mark]) -> Registry:
        """Return a registry that all marks, read after a write, prove complete; else the newest, without its incarnation."""
        registry = self._registry
        # Usually true: joins are rare.
        if all(mark.proves(registry) for mark in marks):
            return registry
        registry = await self.fresh()
        if all(mark.proves(registry) for mark in marks):
            return registry
        return registry._replace(incarnation="", is_settled=False)


class Joining:
    """One node's marks, made with each renewal, before it may read a head."""

    def __init__(self, client: Client, partitions: int, lease_ms: int) -> None:
        self._client = client
        self._partitions = range(partitions)
        self._lease_ms = lease_ms
        self._seen: dict[int, tuple[str, int]] = {}

    async def mark(self, registry: Registry) -> Mapping[int, str]:
        """Mark every Partition. Returns the run of the server that took each mark. Raises `StoreUnavailable`."""
        asked_at_ms = monotonic_ms()
        nonce = secrets.token_hex(8)
        calls = [
            Call(
                scripts.JOIN,
                [keys.meta(partition)],
                [registry.incarnation, registry.joins, self._watched(partition, asked_at_ms), nonce],
            )
            for partition in self._partitions
        ]
        marks = [mark_of(reply) for reply in await self._client.write(calls)]
        answered_at_ms = monotonic_ms()
        for partition, mark in enumerate(marks):
            # The time is kept while the same mark is seen.
            if self._seen.get(partition, ("", 0))[0] != mark.watched:
                self._seen[partition] = mark.watched, answered_at_ms
        return {partition: mark.server_id for partition, mark in enumerate(marks)}

    def _watched(self, partition: int, asked_at_ms: int) -> str:
        watched, since_ms = self._seen.get(partition, ("", 0))
        return watched if asked_at_ms - since_ms >= self._lease_ms else ""
