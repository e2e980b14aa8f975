"""Interfaces that the replicator needs: a Changelog to follow, a snapshot to load, a way to announce its Positions.

The store implements them; `replica` never imports the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from gate.core.changes import Change
from gate.core.revision import Position
from gate.core.snapshot import Part


class ChangeSource(Protocol):
    """A Changelog per Partition, and the facts. Every method has a deadline and raises `StoreUnavailable` when it passes."""

    @property
    def partitions(self) -> int:
        """Number of Partitions of the deployment."""
        ...

    @property
    def is_partly_away(self) -> bool:
        """Whether some of several servers are unavailable while the others answer."""
        ...

    async def prepare(self) -> None:
        """Ensure that every Partition has an epoch (an emptied Redis has none)."""
        ...

    async def heads(self) -> list[Position]:
        """Return the head of each Partition's Changelog; `NOWHERE` for one without history."""
        ...

    async def write_id_at(self, partition: int, seq: int) -> str | None:
        """Return the write id of the entry at `seq`, or None if the log no longer holds it."""
        ...

    async def read(self, after: Sequence[Position], block_ms: int) -> dict[int, list[Change]]:
        """Return Changes after each Position, oldest first. Waits up to `block_ms` for the first; their number is bounded."""
        ...

    def reconnect(self, problem: str) -> None:
        """Close every connection. The next call opens new ones."""
        ...

    def snapshot(self) -> AsyncIterator[Sequence[Part]]:
        """Yield all facts in batches. A fact that changes meanwhile may be old or new; the Changelog settles it."""
        ...


class Announcer(Protocol):
    """Announces that this node is alive and what it has applied."""

    @property
    def server_id(self) -> str:
        """The run of the server that is connected now. An announcement carries the run at the time it is made."""
        ...

    @property
    def reached_at_ms(self) -> int:
        """When the last fresh connection to Redis's address that reached this run was begun; on the monotonic clock."""
        ...

    @property
    def address_problem(self) -> str:
        """Why the last attempt to open a fresh connection failed; "" if it succeeded."""
        ...

    async def serve_requests(self, asked: Callable[[], None]) -> None:
        """Until cancelled, call `asked` whenever a node requests the Positions of all nodes."""
        ...

    async def renew(self, applied: Mapping[int, Position]) -> str:
        """Renew the node's lease and announce all Positions. Returns the run of the server that has the lease now."""
        ...

    async def announce(self, applied: Mapping[int, Position]) -> None:
        """Announce the Positions that moved."""
        ...

    async def leave(self) -> None:
        """Release the lease in an orderly stop."""
        ...
