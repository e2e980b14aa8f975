"""How a writer learns that its write is effective: it waits until the live nodes have announced what they applied.

An Acknowledger remembers the newest announcement of each node, so one that came before the wait began counts as well. It waits
for the nodes that were live when the write was in, and for its own node in any case: checks here are answered from here. A
node whose lease ends meanwhile is no longer waited for. What an announcement lost on a broken connection said is said again
with the node's next renewal.

An announcement counts only for writes to the same run of the server: one that came back with older data gives numbers that were
announced before to other writes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import Literal

from gate.clock import monotonic_ms
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.link import Link, LinkLost, Reply
from gate.store.nodes import unpack_announcement
from gate.store.store import Store
from gate.store.writing import Written

Applied = Literal["all", "node", "pending"]

WAIT_MS = 1_000
LOOK_AGAIN_MS = 250
"""How often a wait asks which nodes still live: seldom, since almost every wait is over in a few ms."""
LISTEN_AGAIN_MS = 250
PING_EVERY_MS = 1_000
"""How soon a dead subscription is noticed, together with the store's deadline."""


class _Wait:
    """One write, and the nodes that are yet to announce it."""

    __slots__ = ("arrival", "began_ms", "nodes", "written")

    def __init__(self, written: Written, nodes: set[str], arrival: asyncio.Future[None]) -> None:
        self.written = written
        self.nodes = nodes
        self.arrival = arrival
        self.began_ms = monotonic_ms()

    def drop(self, node: str) -> None:
        """This node need not be waited for any more."""
        self.nodes.discard(node)
        if not self.nodes and not self.arrival.done():
            self.arrival.set_result(None)


class Acknowledger:
    """Listens from `start` to `aclose`; shared by all writers of a process."""

    def __init__(self, store: Store, node: str | None) -> None:
        self._store = store
        self._node = node
        self._applied: dict[str, tuple[str, dict[int, tuple[str, int]]]] = {}
        self._waits: defaultdict[str, set[_Wait]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None
        self._live: frozenset[str] = frozenset()
        self._looked_at_ms = -1
        self._looking = asyncio.Lock()

    async def start(self) -> None:
        """Subscribe, and keep subscribed. Raises `StoreUnavailable` if the server is away now; later losses heal."""
        link = await self._subscribed()
        self._listening = asyncio.get_running_loop().create_task(self._listen(link))

    async def aclose(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def wait(self, written: Written, timeout_ms: int = WAIT_MS) -> Applied:
        """How far the write got within the time: `all` live nodes, this `node`, or `pending`. Never raises."""
        own = {self._node} if self._node else set()
        nodes = {node for node in written.live_nodes | own if not self._has(node, written)}
        if nodes:
            wait = _Wait(written, nodes, asyncio.get_running_loop().create_future())
            for node in tuple(nodes):
                self._waits[node].add(wait)
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await self._settle(wait)
            except TimeoutError:
                pass  # what was heard until now is the answer
            finally:
                self._forget(wait, written.live_nodes | own)
        if not nodes:
            return "all"
        return "node" if self._node and self._node not in nodes else "pending"

    async def _settle(self, wait: _Wait) -> None:
        while not wait.arrival.done():
            await asyncio.wait([wait.arrival], timeout=LOOK_AGAIN_MS / 1000)
            if not wait.arrival.done() and (live := await self._live_since(wait.began_ms)) is not None:
                for node in wait.nodes - live - {self._node or ""}:
                    wait.drop(node)

    async def _live_since(self, began_ms: int) -> frozenset[str] | None:
        """The live nodes as read at some time after `began_ms`, so that many waits share one look; None if Redis is away.

        An older look won't do: it may lack a node that took its lease just before the write.
        """
        async with self._looking:
            if self._looked_at_ms < max(began_ms, monotonic_ms() - LOOK_AGAIN_MS):
                looked_at_ms = monotonic_ms()
                try:
                    self._live = await self._store.writer.live_nodes()
                except StoreUnavailable:
                    return None
                self._looked_at_ms = looked_at_ms
            return self._live

    def _forget(self, wait: _Wait, nodes: frozenset[str]) -> None:
        for node in nodes:
            waits = self._waits.get(node)
            if waits is not None:
                waits.discard(wait)
                if not waits:
                    del self._waits[node]

    def _has(self, node: str, written: Written) -> bool:
        server_id, applied = self._applied.get(node, ("", {}))
        if server_id != written.server_id:
            return False
        for partition, epoch, seq in written.revisions:
            at = applied.get(partition)
            if at is None or at[0] != epoch or at[1] < seq:
                return False
        return True

    def _hear(self, message: list[Reply]) -> None:
        announcement = unpack_announcement(message[2])
        if announcement is None:
            return
        node = announcement.node
        server_id, applied = self._applied.get(node, ("", {}))
        known = applied if server_id == announcement.server_id else {}
        self._applied[node] = announcement.server_id, {**known, **announcement.applied}
        for wait in tuple(self._waits.get(node, ())):
            if self._has(node, wait.written):
                self._waits[node].discard(wait)
                wait.drop(node)

    async def _subscribed(self) -> Link:
        link = await self._store.client.open_dedicated(self._hear)
        try:
            await link.exchange([("SUBSCRIBE", keys.APPLIED_CHANNEL)], self._store.client.deadline_ms)
        except LinkLost as loss:
            raise StoreUnavailable(str(loss)) from None
        return link

    async def _listen(self, link: Link) -> None:
        try:
            while True:
                with contextlib.suppress(LinkLost):
                    while True:
                        await asyncio.sleep(PING_EVERY_MS / 1000)
                        await link.exchange([("PING",)], self._store.client.deadline_ms)
                link = await self._subscribed_again()
        finally:
            await link.aclose()

    async def _subscribed_again(self) -> Link:
        while True:
            try:
                return await self._subscribed()
            except StoreUnavailable:
                await asyncio.sleep(LISTEN_AGAIN_MS / 1000)
