"""What the replicator needs of the world: a Changelog to follow, a snapshot to load, a way to say how far it got.

The store implements these; `replica` never imports it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from gate.core.changes import Change
from gate.core.revision import Position
from gate.core.snapshot import Part


class ChangeSource(Protocol):
    """A Changelog per Partition, and the facts behind them. Every method has a deadline; `StoreUnavailable` when it passes."""

    @property
    def partitions(self) -> int:
        """How many Partitions the deployment has."""
        ...

    @property
    def is_partly_away(self) -> bool:
        """Whether some of several servers are away, and the others answer."""
        ...

    async def prepare(self) -> None:
        """Make sure that every Partition has an epoch (a Redis that was emptied has none)."""
        ...

    async def heads(self) -> list[Position]:
        """The head of each Partition's Changelog; `NOWHERE` where there is no history."""
        ...

    async def write_id_at(self, partition: int, seq: int) -> str | None:
        """The write id of the entry at `seq`, or None if the log no longer holds it."""
        ...

    async def read(self, after: Sequence[Position], block_ms: int) -> dict[int, list[Change]]:
        """Changes after each Position, oldest first, waiting up to `block_ms` for the first; bounded in number a call."""
        ...

    def reconnect(self, problem: str) -> None:
        """Close every connection; the next call makes new ones."""
        ...

    def snapshot(self) -> AsyncIterator[Sequence[Part]]:
        """All facts, in batches. Facts that change meanwhile may show as before or after; the Changelog settles it."""
        ...


class Announcer(Protocol):
    """How this node says that it lives and what it has applied."""

    @property
    def server_id(self) -> str:
        """Which run of the server is connected now. Announcements are labelled with it as it is when they are made."""
        ...

    @property
    def reached_at_ms(self) -> int:
        """When a fresh connection to the address of Redis was begun that reached this run, last; on the monotonic clock."""
        ...

    @property
    def address_problem(self) -> str:
        """Why the last attempt to make one failed; "" if it did not."""
        ...

    async def heed(self, asked: Callable[[], None]) -> None:
        """Until cancelled, call `asked` whenever somebody asks all nodes for their Positions."""
        ...

    async def renew(self, applied: Mapping[int, Position]) -> str:
        """Renew the node's lease and say all Positions. Answers which run of the server has the lease now."""
        ...

    async def announce(self, applied: Mapping[int, Position]) -> None:
        """Say the Positions that moved, at once."""
        ...

    async def leave(self) -> None:
        """Give the lease up, in an orderly stop."""
        ...
