"""The registry of nodes: one hash in Redis with an entry for each node that holds a lease, and a marker.

A lease is judged by its beats: each renewal has a higher one. An observer that has watched the same beat for a whole lease on
its own monotonic clock considers the node dead. No step of any clock ends or prolongs a lease.

The registry may be lost with the rest of Redis, or belong to another history. The marker reveals that. The first renewal that
finds none of this run of the server sets one with a new incarnation, and it is settled once a node has watched that
incarnation for a whole lease. From then on, no node that is missing from the list can call its facts fresh
(docs/decisions/0011). Written by `lua/lease.lua`, read after every write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gate.store import keys, scripts
from gate.store.link import Reply
from gate.store.scripts import Call

# How long a crashed node is waited for: several renewals, so that a single lost one has no effect.
LEASE_TTL_MS = 3_000

READ = Call(scripts.LIVE_NODES, [keys.NODES], [])
_MARKER, _JOINS = b"marker", b"joins"
_NODE = b"node/"


class ListedNode(NamedTuple):
    """One node's entry. `clock_offset_ms` is its wall clock minus the server's, at its last renewal."""

    node: str
    run: str
    beat: int
    ttl_ms: int
    clock_offset_ms: int
    packed: bytes
    """The stored value. A removal compares it, so that an entry that has moved is not removed."""

    @property
    def field(self) -> bytes:
        """Its field in the hash."""
        return _NODE + self.node.encode()


class Registry(NamedTuple):
    """The registry at one moment."""

    server_id: str
    """The run of the server, and the history, from which it was read."""
    incarnation: str
    """Incarnation of the list, if its marker belongs to that same run and history; else ""."""
    is_settled: bool
    nodes: tuple[ListedNode, ...]
    joins: int = 0
    """On a Cluster: number of leases taken, not only renewed, under this incarnation."""

    @property
    def live(self) -> frozenset[str]:
        """The ids of all listed nodes."""
        return frozenset(listed.node for listed in self.nodes)

    @property
    def complete(self) -> str:
        """The incarnation, if no node that may call its facts fresh can be missing from the list; else ""."""
        return self.incarnation if self.is_settled else ""


def parse_registry(reply: Sequence[Reply]) -> Registry:
    """Parse the scripts' reply: the server id, then fields and values."""
    server_id = reply[0].decode()
    fields = dict(zip(reply[1::2], reply[2::2], strict=True))
    joins = int(fields.pop(_JOINS, b"0"))
    # A missing marker matches no server.
    incarnation, of_server, settled = fields.pop(_MARKER, b"- - 0").decode().split(" ")
    return Registry(
        server_id,
        incarnation if of_server == server_id else "",
        of_server == server_id and settled == "1",
        tuple(
            ListedNode(field[len(_NODE) :].decode(), run, int(beat), int(ttl_ms), int(offset_ms), value)
            for field, value in fields.items()
            for run, beat, ttl_ms, offset_ms in [value.decode().split(" ")]
        ),
        joins,
    )


class BeatWatch:
    """One observer's record of beats, on its own monotonic clock."""

    def __init__(self) -> None:
        self._since_ms: dict[tuple[str, str], tuple[int, int]] = {}
        self._incarnation, self._incarnation_since_ms = "", 0

    def note(self, registry: Registry, seen_at_ms: int) -> list[str]:
        """Add a registry that was read by `seen_at_ms`. Returns the nodes that are new or whose beat moved."""
        if registry.incarnation != self._incarnation:
            self._incarnation, self._incarnation_since_ms = registry.incarnation, seen_at_ms
        # Rebuilt each time, so removed nodes are forgotten.
        known, self._since_ms = self._since_ms, {}
        moved: list[str] = []
        for listed in registry.nodes:
            at = known.get((listed.node, listed.run))
            # A new run of a node has a key of its own.
            if at is None or at[0] != listed.beat:
                moved.append(listed.node)
                at = listed.beat, seen_at_ms
            self._since_ms[listed.node, listed.run] = at
        return moved

    def dead(self, listed: Iterable[ListedNode], asked_at_ms: int) -> Iterator[ListedNode]:
        """Yield nodes whose beat, in a reply to a request sent at `asked_at_ms`, has not moved for a lease."""
        for each in listed:
            beat, since_ms = self._since_ms.get((each.node, each.run), (-1, 0))
            # Measured from a reply to a later request, so the measured time is never longer than the real one.
            if beat == each.beat and asked_at_ms - since_ms >= each.ttl_ms:
                yield each

    def incarnation_watched(self, asked_at_ms: int, lease_ms: int) -> str:
        """Return the incarnation if it was the same for a whole lease before `asked_at_ms`; else ""."""
        return self._incarnation if asked_at_ms - self._incarnation_since_ms >= lease_ms else ""
