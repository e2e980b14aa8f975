"""The sweeper: ends leases that are no longer renewed, closes their Sessions, and announces departures that have lasted.

A lease is watched on this process's monotonic clock. If its beat has not changed for its time to live, a script compares the
beat once more and ends the lease. If Redis was unreachable or restarted, the watch starts again, and time in which this process
did not watch does not count; so an outage on our side ends no lease. A restarted Redis may have lost data: no departure is
announced until a lease's time to live has passed. Every node sweeps; work that another node did is found done.
Each slice of an App's Presence has its own copy of a lease, and is watched and swept by itself. If one master of a Cluster is
unreachable, Apps without data on it are swept as usual, and the watch of the others starts again.

Called by the background role, `run` until cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from gate.clock import monotonic_ms
from gate.core.presence import Lease, lease_of
from gate.errors import StoreUnavailable
from gate.presence.metrics import OldestBeat
from gate.store import presence_keys as keys
from gate.store.link import Reply
from gate.store.presence import PresenceStore

LOOK_EVERY_MS = 250
# The most that the time between two looks counts as watched. A longer gap means that the machine was stopped, and with it
# the Gateways' renewals.
MOST_WATCHED_MS = 1_000
# Of one kind for one App, some 20 ms: the rest of a large sweep waits for the next look, which follows at once.
SCRIPTS_A_LOOK = 10
# Interval at which old connect fences (bars) and old ended leases are deleted.
TIDY_EVERY_MS = 10_000

# Gets the `OldestBeat.ratio`, and the number of Gateways with a lease by App.
Report = Callable[[float, Mapping[str, int]], None]
# Adds to the count of `leases`, `sessions` or `departures`.
Counted = Callable[[str, int], None]


class _Seen(NamedTuple):
    epoch: int
    beat: int
    at_ms: int
    """In watched time, `_watched_ms`."""


class Sweeper:
    """Sweeps all Apps. One per process."""

    def __init__(
        self,
        store: PresenceStore,
        lease_ttl_ms: int,
        count: Counted = lambda what, many: None,
        clock: Callable[[], int] = monotonic_ms,
        report: Report = lambda oldest, gateways: None,
    ) -> None:
        self.store = store
        self._lease_ttl_ms = lease_ttl_ms
        self._count = count
        self._clock = clock
        self._report = report
        self._oldest = OldestBeat(lease_ttl_ms)
        self.seen: dict[tuple[str, int, bytes], _Seen] = {}
        self._apps: Sequence[str] = ()
        self._server_id = ""
        self._tidied_at_ms = 0
        self._looked_at_ms = clock()
        self._watched_ms = 0
        self._announce_from_ms = 0

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                next_ms = await self.look()
            except StoreUnavailable:
                self.seen.clear()
                next_ms = LOOK_EVERY_MS
            await asyncio.sleep(next_ms / 1_000)

    async def look(self) -> int:
        """Run one round. Returns the ms until the next one. Raises `StoreUnavailable`."""
        apps, found = await self._read()
        if self.store.client.server_id != self._server_id:
            self.seen.clear()
            if self._server_id:
                # It may have lost Users' returns: live Gateways report those again with their next renewal.
                self._announce_from_ms = self._watched_ms + self._lease_ttl_ms
            self._server_id = self.store.client.server_id
        now_ms = self._clock()
        self._watched_ms += min(now_ms - self._looked_at_ms, MOST_WATCHED_MS)
        self._looked_at_ms = now_ms
        # Built again with each look, so that leases which are gone are forgotten.
        before, self.seen = self.seen, {}
        is_tidying = now_ms - self._tidied_at_ms >= TIDY_EVERY_MS
        if is_tidying:
            self._tidied_at_ms = now_ms
        soonest_ms = LOOK_EVERY_MS
        holding: dict[str, int] = {}
        self._oldest.note(0, now_ms)
        for app, at, (leases, ending, leaving) in _slices(apps, found):
            known = [lease_of(*one) for one in zip(leases[::2], leases[1::2], strict=True)]
            # A lease is in every slice: the slice that has most of them counts, not the sum.
            holding[app] = max(holding.get(app, 0), sum(lease.holds for lease in known))
            try:
                ended = await self._end_silent(app, at, known, before)
                if (ended or ending) and await self._sweep(app, at):
                    # There is more to sweep than one look may: go on at once.
                    soonest_ms = 0
                if is_tidying:
                    await self._tidy(app, at, known)
                if (ended or ending or leaving) and self._watched_ms >= self._announce_from_ms:
                    soonest_ms = min(soonest_ms, await self._announce(app, at))
            except StoreUnavailable:
                if not self.store.client.is_partly_away:
                    raise
                for lease in known:
                    self.seen.pop((app, at, lease.gateway), None)
        self._report(self._oldest.ratio, holding)
        return max(1, soonest_ms)

    async def _read(self) -> tuple[Sequence[str], Sequence[Sequence[Sequence[Reply]]]]:
        """Return the Apps that can be read, and the replies for their slices. Raises `StoreUnavailable`."""
        try:
            self._apps = await self.store.apps()
            return self._apps, await self._look_at(self._apps)
        except StoreUnavailable:
            if not self.store.client.is_partly_away:
                raise
        found = {}
        for app in self._apps:
            with suppress(StoreUnavailable):
                (found[app],) = await self._look_at([app])
        return tuple(found), tuple(found.values())

    async def _look_at(self, apps: Sequence[str]) -> Sequence[Sequence[Sequence[Reply]]]:
        return await self.store.slices.look(
            apps,
            lambda app, at: (
                ("HGETALL", keys.leases(app, at)),
                ("SCARD", keys.ending(app, at)),
                ("ZCARD", keys.leaving(app, at)),
            ),
        )

    async def _end_silent(
        self, app: str, at: int, leases: list[Lease], before: dict[tuple[str, int, bytes], _Seen]
    ) -> int:
        ended = 0
        for lease in leases:
            place = app, at, lease.gateway
            seen = before.get(place)
            if not lease.holds:
                continue
            if seen is not None:
                self._oldest.note(self._watched_ms - seen.at_ms, self._looked_at_ms)
            # Any other beat proves a renewal; its value and the Gateway's clock say nothing.
            if seen is None or (seen.epoch, seen.beat) != (lease.epoch, lease.beat):
                seen = _Seen(lease.epoch, lease.beat, self._watched_ms)
            if self._watched_ms - seen.at_ms < self._lease_ttl_ms:
                self.seen[place] = seen
            else:
                # With the beat: the script ends nothing that was renewed since it was read.
                ended += await self.store.end_lease(app, lease.gateway, lease.epoch, lease.beat, at)
        if ended:
            self._count("leases", ended)
        return ended

    async def _sweep(self, app: str, at: int) -> bool:
        """True if there is more to sweep."""
        for _ in range(SCRIPTS_A_LOOK):
            ended, leases_left = await self.store.sweep(app, at)
            if ended:
                self._count("sessions", ended)
            if not leases_left:
                return False
        return True

    async def _tidy(self, app: str, at: int, leases: Sequence[Lease]) -> None:
        if await self._drop_bars(app, at):
            # There are more: due again with the next look.
            self._tidied_at_ms = self._looked_at_ms - TIDY_EVERY_MS
        if not all(lease.holds for lease in leases):
            await self.store.tidy(app, at)

    async def _drop_bars(self, app: str, at: int) -> bool:
        """True if there are more old connect fences to delete."""
        for _ in range(SCRIPTS_A_LOOK):
            if not await self.store.drop_bars(app, at):
                return False
        return True

    async def _announce(self, app: str, at: int) -> int:
        """Announce departures that are due. Returns the ms until the next one is."""
        for _ in range(SCRIPTS_A_LOOK):
            announced, due_in_ms = await self.store.announce(app, at)
            if announced:
                self._count("departures", announced)
            if due_in_ms is None:
                return LOOK_EVERY_MS
            if due_in_ms > 0:
                return due_in_ms
        return 0


def _slices(
    apps: Sequence[str], found: Sequence[Sequence[Sequence[Reply]]]
) -> Iterator[tuple[str, int, Sequence[Reply]]]:
    """Yield each slice of each App with its replies."""
    for app, slices in zip(apps, found, strict=True):
        for at, replies in enumerate(slices):
            yield app, at, replies
