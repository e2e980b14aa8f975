"""Interfaces that the replicator needs: a Changelog to follow, a snapshot to load, a way to announce its Positions.

The store implements them; `replica` never imports the store. `Upstream` holds both, from the moment that Redis has answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Protocol

from gate.core.changes import Change
from gate.core.revision import Position
from gate.core.snapshot import Part
from gate.errors import StoreUnavailable

# Duration of the first attempt to connect: an embedded server may be loading its file.
FIRST_ATTEMPT_S = 2.0


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

    async def announce(self, applied: Mapping[int, Position], server_id: str) -> None:
        """Announce the Positions that moved, unless another run of the server is connected than this one."""
        ...

    async def leave(self) -> None:
        """Release the lease in an orderly stop."""
        ...


class Upstream:
    """Redis as the replicator uses it: a source and an announcer. Each use raises `StoreUnavailable` before they are there.

    So a replicator whose Redis is away at its start does what it does whenever Redis is away: it serves the facts that it has,
    as cut off, and tries again.
    """

    def __init__(self, source: ChangeSource | None = None, announcer: Announcer | None = None) -> None:
        self._source = source
        self._announcer = announcer
        self._was_tried = asyncio.Event()
        if source is not None:
            self._was_tried.set()

    def connect(self, source: ChangeSource, announcer: Announcer) -> None:
        """Redis has answered."""
        self._source, self._announcer = source, announcer
        self._was_tried.set()

    def give_up(self) -> None:
        """The first attempt has failed, or there is no time left to wait for it."""
        self._was_tried.set()

    async def first_attempt(self) -> None:
        """Wait a moment for the outcome of the first attempt: a Redis that answers at once is not reported as away."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ATTEMPT_S):
                await self._was_tried.wait()

    @property
    def is_connected(self) -> bool:
        """Whether Redis has answered."""
        return self._source is not None

    # Cached, so that what is there costs no call; what raises is not kept.

    @cached_property
    def source(self) -> ChangeSource:
        """The Changelogs and the facts."""
        if self._source is None:
            raise StoreUnavailable("Redis has not been reached yet")
        return self._source

    @cached_property
    def announcer(self) -> Announcer:
        """The lease and the announcements of this node."""
        if self._announcer is None:
            raise StoreUnavailable("Redis has not been reached yet")
        return self._announcer
