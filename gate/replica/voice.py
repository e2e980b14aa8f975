"""The node's voice: renews its lease, and announces each Position that moved, in order, beside the replicator's own work.

Announcing must not hold up the next read, so it is a task with one slot: what moves while a message is on its way is merged
into the next one. A lost announcement is no harm; every renewal says all Positions again.

Positions are said only to the run of the server whose heads were found to continue them: one that came back with older data
gives the same numbers to other writes, and whoever waits for those must not hear ours.

Called by the replicator.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import structlog

from gate.clock import monotonic_ms
from gate.core.revision import Position
from gate.errors import StoreUnavailable
from gate.replica.source import Announcer

RENEW_EVERY_MS = 700
"""A quarter of the lease: three in a row may be lost."""
LEASE_TRUSTED_MS = 1_900
"""After a renewal: with the grace in which facts count as fresh (`board.FRESH_GRACE_MS`), still less than the lease."""


UNABLE_RENEWALS = 3
"""In so many renewals, about two seconds, a node that could apply nothing though Redis answers lets writers go on without it. A
snapshot of many facts takes longer; no writer needs to wait for that either."""


class Asked(NamedTuple):
    """A question for the heads of Redis: when, of which server, and whether writers were certain to wait for this node then."""

    at_ms: int
    server_id: str
    is_waited_for: bool


_log = structlog.get_logger()


class Voice:
    """Speaks for this node. `applied` names all Positions of the facts that are served; `end_freshness` makes them stale."""

    def __init__(
        self, announcer: Announcer, applied: Callable[[], Mapping[int, Position]], end_freshness: Callable[[], None]
    ) -> None:
        self._announcer = announcer
        self._applied = applied
        self._end_freshness = end_freshness
        self._renewals_out_of_step = 0
        self._is_silent = False
        self._moved: dict[int, Position] = {}
        self._news = asyncio.Event()
        self._vouched_for: str | None = None
        self._renewed_at_ms = -LEASE_TRUSTED_MS
        self._renewed_on = ""
        self.problem = "it took too long"
        """Why the last renewal that failed did so."""

    def ask(self) -> Asked:
        """Before asking Redis for its heads. `StoreUnavailable` where writers may not wait for this node now.

        Where renewals fail although Redis names its heads, writes may go to another server by now, as after a failover; and a
        node that was paused may have been taken off the list. The same if no fresh connection reached the server lately: the
        address may lead elsewhere.
        """
        now_ms = monotonic_ms()
        if self._is_silent:
            return Asked(now_ms, self._announcer.server_id, is_waited_for=False)
        certain_until_ms = min(self._renewed_at_ms, self._announcer.reached_at_ms) + LEASE_TRUSTED_MS
        if now_ms >= certain_until_ms or self._announcer.server_id != self._renewed_on:
            problem = self._announcer.address_problem or self.problem
            raise StoreUnavailable(f"this node's lease was not renewed, so writers may not wait: {problem}")
        return Asked(now_ms, self._renewed_on, is_waited_for=True)

    def vouch(self, asked: Asked) -> None:
        """The heads that were asked for continue the Positions applied here. `StoreUnavailable` if the server changed."""
        if self._announcer.server_id != asked.server_id:
            raise StoreUnavailable("the connection to Redis was replaced meanwhile")
        if asked.is_waited_for and self._is_silent:
            raise StoreUnavailable("the lease was given up meanwhile")
        if asked.server_id != self._vouched_for:
            self._vouched_for = asked.server_id
            self.say(self._applied())

    def say(self, moved: Mapping[int, Position]) -> None:
        """Announce Positions, soon."""
        if moved:
            self._moved.update(moved)
            self._news.set()

    def in_step(self) -> bool:
        """What Redis has can be applied here, as far as it can be reached. True if the lease must be taken again."""
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
            renewed_on = await self._announcer.renew(self._applied() if self._may_say else {})
        except StoreUnavailable as fault:
            self.problem = str(fault)
            raise
        self._renewed_at_ms, self._renewed_on = began_ms, renewed_on

    async def speak(self) -> None:
        """Announce and renew until cancelled."""
        loop = asyncio.get_running_loop()
        renew_at = loop.time()
        heeding = loop.create_task(self._announcer.heed(lambda: self.say(self._applied())))
        try:
            while True:
                try:
                    async with asyncio.timeout_at(renew_at):
                        await self._news.wait()
                except TimeoutError:
                    renew_at = loop.time() + RENEW_EVERY_MS / 1_000 * random.uniform(0.9, 1.1)
                    await self._attempt(self._renew_or_leave)
                else:
                    await self._attempt(self._announce)
        finally:
            heeding.cancel()
            await asyncio.wait([heeding])

    async def leave(self) -> None:
        """End freshness, then give the lease up; if Redis is away it lapses by itself."""
        self._end_freshness()  # first: a writer that does not wait for this node must find its facts stale
        await self._attempt(self._announcer.leave)

    async def _renew_or_leave(self) -> None:
        if self._is_silent:
            return
        self._renewals_out_of_step += 1  # counted, not timed: a process that was paused finds out first how things are
        if self._renewals_out_of_step <= UNABLE_RENEWALS:
            await self.renew()
            return
        _log.warning("nothing can be applied here; the lease is given up, so that writers do not wait for this node")
        self._is_silent = True
        await self.leave()

    async def _announce(self) -> None:
        moved, self._moved = self._moved, {}
        self._news.clear()
        if self._may_say and not self._is_silent:
            await self._announcer.announce(moved)

    @property
    def _may_say(self) -> bool:
        return self._announcer.server_id == self._vouched_for

    async def _attempt(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except StoreUnavailable:
            return  # the replicator meets the same and says so; the next renewal repeats all Positions
