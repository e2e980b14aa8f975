"""Redis as the replicator needs it, before Redis answers: every use raises `StoreUnavailable` until `connect`.

So a replicator whose Redis is away at its start does what it does whenever Redis is away: it shows the facts that it has as
cut off, and tries again. Only `renew`, which it calls first, waits a moment for the outcome of the first attempt to connect:
a Redis that answers at once is not reported as away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress

from gate.core.changes import Change
from gate.core.revision import Position
from gate.core.snapshot import Part
from gate.errors import StoreUnavailable
from gate.store.nodes import NodeAnnouncer
from gate.store.store import Store

FIRST_ATTEMPT_S = 2.0
"""For so long the first attempt may take; an embedded server may be loading its file."""


class TruthLater:
    """A `ChangeSource` and an `Announcer`, once connected."""

    def __init__(self) -> None:
        self._store: Store | None = None
        self._announcer: NodeAnnouncer | None = None
        self._was_tried = asyncio.Event()

    def connect(self, store: Store, announcer: NodeAnnouncer) -> None:
        """From now on it is that Store, which this closes, and that node's lease."""
        self._store, self._announcer = store, announcer
        self._was_tried.set()

    def give_up(self) -> None:
        """The first attempt has failed, or there is no time left to wait for it."""
        self._was_tried.set()

    async def aclose(self) -> None:
        """Close the Store."""
        if self._store is not None:
            await self._store.aclose()

    @property
    def is_reached(self) -> bool:
        """Whether Redis has answered."""
        return self._store is not None

    @property
    def store(self) -> Store:
        """The Store."""
        if self._store is None:
            raise StoreUnavailable("Redis has not been reached yet")
        return self._store

    @property
    def partitions(self) -> int:
        """As the Changelog."""
        return self.store.changelog.partitions

    @property
    def is_partly_away(self) -> bool:
        """As the Changelog."""
        return self._store is not None and self._store.changelog.is_partly_away

    async def prepare(self) -> None:
        """As the Changelog."""
        await self.store.changelog.prepare()

    async def heads(self) -> list[Position]:
        """As the Changelog."""
        return await self.store.changelog.heads()

    async def write_id_at(self, partition: int, seq: int) -> str | None:
        """As the Changelog."""
        return await self.store.changelog.write_id_at(partition, seq)

    async def read(self, after: Sequence[Position], block_ms: int) -> dict[int, list[Change]]:
        """As the Changelog."""
        return await self.store.changelog.read(after, block_ms)

    def reconnect(self, problem: str) -> None:
        """As the Changelog."""
        self.store.changelog.reconnect(problem)

    def snapshot(self) -> AsyncIterator[Sequence[Part]]:
        """As the Changelog."""
        return self.store.changelog.snapshot()

    @property
    def server_id(self) -> str:
        """As the announcer; "" before it is connected."""
        return self._announcer.server_id if self._announcer is not None else ""

    @property
    def reached_at_ms(self) -> int:
        """As the announcer; before all moments where it is not connected."""
        return self._announcer.reached_at_ms if self._announcer is not None else 0

    @property
    def address_problem(self) -> str:
        """As the announcer."""
        return self._announcer.address_problem if self._announcer is not None else ""

    async def serve_requests(self, asked: Callable[[], None]) -> None:
        """As the announcer, once the first renewal has found it."""
        assert self._announcer is not None
        await self._announcer.serve_requests(asked)

    async def renew(self, applied: Mapping[int, Position]) -> str:
        """As the announcer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ATTEMPT_S):
                await self._was_tried.wait()
        return await self._connected().renew(applied)

    async def announce(self, applied: Mapping[int, Position]) -> None:
        """As the announcer."""
        await self._connected().announce(applied)

    async def leave(self) -> None:
        """As the announcer."""
        await self._connected().leave()

    def _connected(self) -> NodeAnnouncer:
        if self._announcer is None:
            raise StoreUnavailable("Redis has not been reached yet")
        return self._announcer
