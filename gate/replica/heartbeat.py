"""The node's heartbeat: it renews the lease and announces each Position that moved, in order, as a task of its own.

Announcing must not delay the replicator's next read, so this task has one slot: Positions that move during an announcement are
merged into the next one. A lost announcement does no harm, because every renewal announces all Positions again.

Positions are announced only to the run of the server whose heads were found to continue them. A Redis restored from older data
reuses sequence numbers, and an announcement of ours would acknowledge another caller's write.

Called by the replicator.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import structlog

from gate.clock import monotonic_ms
from gate.core.revision import Position
from gate.errors import StoreUnavailable
from gate.replica.ports import Upstream

# A quarter of the lease: three in a row may be lost.
RENEW_EVERY_MS = 700
# After a renewal: with the grace in which facts count as fresh (`status_page.FRESH_GRACE_MS`), still less than the lease.
LEASE_TRUSTED_MS = 1_900


# A node that applies nothing for this many renewals (about two seconds) although Redis answers gives its lease up, so that
# writers go on without it. Loading a large snapshot takes longer; no writer needs to wait for that either.
UNABLE_RENEWALS = 3


class HeadsRead(NamedTuple):
    """A read of the heads of Redis: its moment, the server, and whether writers were certain to wait for this node then."""

    at_ms: int
    server_id: str
    is_waited_for: bool


_log = structlog.get_logger()


class Heartbeat:
    """Lease and announcements of this node. `applied` returns all Positions served; `end_freshness` marks the facts stale."""

    def __init__(
        self, upstream: Upstream, applied: Callable[[], Mapping[int, Position]], end_freshness: Callable[[], None]
    ) -> None:
        self._upstream = upstream
        self._applied = applied
        self._end_freshness = end_freshness
        self._renewals_out_of_step = 0
        self._is_silent = False
        self._moved: dict[int, Position] = {}
        self._news = asyncio.Event()
        self._confirmed_server: str | None = None
        self._renewed_at_ms = -LEASE_TRUSTED_MS
        self._renewed_on = ""
        self.problem = "it took too long"
        """Why the last renewal that failed did so."""

    def begin_read(self) -> HeadsRead:
        """To be called before a read of the heads. `StoreUnavailable` if writers may not wait for this node now.

        If renewals fail although Redis returns its heads, writes may already go to another server, as after a failover; and a
        node that was paused may have been removed from the registry. The same holds if no new connection reached the server
        lately: the address may lead to another one.
        """
        now_ms = monotonic_ms()
        if self._is_silent:
            return HeadsRead(now_ms, self._upstream.announcer.server_id, is_waited_for=False)
        # The earlier of both limits counts: the lease, and the proof of the address.
        certain_until_ms = min(self._renewed_at_ms, self._upstream.announcer.reached_at_ms) + LEASE_TRUSTED_MS
        if now_ms >= certain_until_ms or self._upstream.announcer.server_id != self._renewed_on:
            problem = self._upstream.announcer.address_problem or self.problem
            raise StoreUnavailable(f"this node's lease was not renewed, so writers may not wait: {problem}")
        return HeadsRead(now_ms, self._renewed_on, is_waited_for=True)

    def confirm_server(self, read: HeadsRead) -> None:
        """The heads that were read continue the Positions applied here. `StoreUnavailable` if the server changed."""
        # The heads may have been read from another server than the one asked before.
        if self._upstream.announcer.server_id != read.server_id:
            raise StoreUnavailable("the connection to Redis was replaced meanwhile")
        if read.is_waited_for and self._is_silent:
            raise StoreUnavailable("the lease was given up meanwhile")
        if read.server_id != self._confirmed_server:
            self._confirmed_server = read.server_id
            self.queue(self._applied())

    def queue(self, moved: Mapping[int, Position]) -> None:
        """Announce these Positions with the next message."""
        if moved:
            self._moved.update(moved)
            self._news.set()

    def in_step(self) -> bool:
        """This node can apply what Redis has. True if the lease must be taken again."""
        self._renewals_out_of_step = 0
        was_silent, self._is_silent = self._is_silent, False
        return was_silent

    async def take(self) -> None:
        """Take or renew the lease, unless this node can't apply anything at present. `StoreUnavailable`."""
        if not self._is_silent:
            await self.renew()

    async def renew(self) -> None:
        """Take or renew the lease now. `StoreUnavailable`."""
        began_ms = monotonic_ms()
        try:
            may_announce = self._upstream.announcer.server_id == self._confirmed_server
            renewed_on = await self._upstream.announcer.renew(self._applied() if may_announce else {})
        except StoreUnavailable as fault:
            self.problem = str(fault)
            raise
        self._renewed_at_ms, self._renewed_on = began_ms, renewed_on

    async def run(self) -> None:
        """Announce and renew until cancelled. If Redis is away, the replicator meets the same error and logs it."""
        loop = asyncio.get_running_loop()
        renew_at = loop.time()
        listening = loop.create_task(self._upstream.announcer.serve_requests(lambda: self.queue(self._applied())))
        try:
            while True:
                try:
                    async with asyncio.timeout_at(renew_at):
                        await self._news.wait()
                except TimeoutError:
                    # Jitter, so that the nodes of a deployment do not renew in step.
                    renew_at = loop.time() + RENEW_EVERY_MS / 1_000 * random.uniform(0.9, 1.1)
                    with suppress(StoreUnavailable):
                        await self._renew_or_resign()
                else:
                    # Swapped before the await, so that later moves go into the next message.
                    moved, self._moved = self._moved, {}
                    self._news.clear()
                    if self._confirmed_server is not None and not self._is_silent:
                        with suppress(StoreUnavailable):  # the next renewal repeats all Positions
                            await self._upstream.announcer.announce(moved, self._confirmed_server)
        finally:
            listening.cancel()
            await asyncio.wait([listening])

    async def resign(self) -> None:
        """End freshness, then give the lease up; if Redis is away it lapses by itself."""
        self._end_freshness()  # first: a writer that does not wait for this node must find its facts stale
        with suppress(StoreUnavailable):
            await self._upstream.announcer.leave()

    async def _renew_or_resign(self) -> None:
        if self._is_silent:
            return
        self._renewals_out_of_step += 1  # counted, not timed: after a pause the node must first look at its state
        if self._renewals_out_of_step <= UNABLE_RENEWALS:
            await self.renew()
            return
        _log.warning("nothing can be applied here; the lease is given up, so that writers do not wait for this node")
        self._is_silent = True
        await self.resign()
