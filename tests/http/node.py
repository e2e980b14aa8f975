"""A node inside the test's own loop: a replicator on a directory, and an Acknowledger that hears it.

Stopping the replicator makes the node one that applies nothing more, which is how a test gets `pending` and `stale`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gate.replica.ports import Upstream
from gate.replica.replicator import Replicator
from gate.store.acks import Acknowledger
from gate.store.store import Store

NODE_ID = "node-1"
READY_S = 10.0


class Node:
    """The node's replicator and its Acknowledger."""

    def __init__(self, store: Store, directory: Path, acks: Acknowledger) -> None:
        self.acks = acks
        self.directory = directory
        self._store = store
        self._replicator: Replicator | None = None
        self._running: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def running(cls, store: Store, directory: Path) -> AsyncIterator[Node]:
        """Caught up, and following."""
        acks = Acknowledger(store, NODE_ID)
        await acks.start()
        node = cls(store, directory, acks)
        try:
            await node.follow()
            yield node
        finally:
            await node.stop_following()
            await acks.aclose()

    @property
    def is_following(self) -> bool:
        return self._replicator is not None

    async def follow(self) -> None:
        """Start a replicator, and wait until it has caught up."""
        self._replicator = Replicator(self.directory, Upstream(self._store.changelog, self._store.announcer(NODE_ID)))
        self._running = asyncio.create_task(self._replicator.run())
        await asyncio.wait_for(self._replicator.ready.wait(), READY_S)

    async def stop_following(self) -> None:
        """Apply nothing more."""
        if self._replicator is not None and self._running is not None:
            self._replicator.stop()
            await self._running
            self._replicator = None
