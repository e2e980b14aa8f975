"""A node's follower inside the test's own loop: Changelog to facts file to announcements, and an Acknowledger that hears it.

Stopping the follower makes the node one that applies nothing more, which is how a test gets `pending` and `stale`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gate.clock import monotonic_ms, wall_ms
from gate.core.revision import Position
from gate.errors import StoreUnavailable
from gate.replica.board import Board
from gate.replica.layout import BOARD_FILE, CURRENT_FILE, facts_name
from gate.replica.writer import FactsFile
from gate.store.acks import Acknowledger
from gate.store.store import Store

NODE_ID = "node-1"
BLOCK_MS = 100
RETRY_S = 0.02


class Node:
    """The node's follower, its board and its Acknowledger."""

    def __init__(self, store: Store, facts: FactsFile, board: Board, acks: Acknowledger) -> None:
        self.acks = acks
        self.board = board
        self._store = store
        self._facts = facts
        self.directory = facts.path.parent
        self._announcer = store.announcer(NODE_ID)
        self._following: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def running(cls, store: Store, directory: Path) -> AsyncIterator[Node]:
        """Empty facts, caught up with an empty deployment, and following."""
        await store.changelog.prepare()
        acks = Acknowledger(store, NODE_ID)
        await acks.start()
        facts = FactsFile.create(directory / facts_name(1), store.partitions)
        facts.finish(await store.changelog.heads(), wall_ms())
        (directory / CURRENT_FILE).write_text(facts_name(1))
        board = Board(directory / BOARD_FILE, write=True)
        node = cls(store, facts, board, acks)
        await node.follow()
        board.put(ready=1)
        try:
            yield node
        finally:
            await node.stop_following()
            await acks.aclose()
            facts.close()
            board.close()

    async def follow(self) -> None:
        """Take the lease and follow from here on."""
        await self._announcer.renew(dict(enumerate(self._facts.positions)))
        self._following = asyncio.create_task(self._follow())

    async def stop_following(self) -> None:
        """Apply nothing more. The lease stays until it ends."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            self._following = None

    async def _follow(self) -> None:
        lease_due_ms = 0
        while True:
            try:
                if monotonic_ms() >= lease_due_ms:
                    await self._announcer.renew(dict(enumerate(self._facts.positions)))
                    lease_due_ms = monotonic_ms() + 500
                await self._step(self._facts.positions)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)

    async def _step(self, positions: Sequence[Position]) -> None:
        moved = self._facts.apply(await self._store.changelog.read(positions, BLOCK_MS), wall_ms())
        self.board.stamp(monotonic_ms())
        if moved:
            with suppress(StoreUnavailable):
                await self._announcer.announce(moved)
