"""The clocks that decide what has ended: the wall clock of every node, and the server's.

A fact ends on each node by its own wall clock. What is deleted is gone on all of them, so a moment counts as *over* only once
all clocks have passed it, and a margin more. Each node's replicator notes in the registry, with every beat, how far its clock
is from the server's; this node's own is read with each look.

A clock may step between a beat and a look, and the server's then makes every noted difference wrong. So the looks of a whole
lease count: a moment is over if it was so in each, and every node that is in the first and in the last has beaten in between. A
node whose clock is more than `MOST_APART_MS` from the server's takes nothing for over: one of the two is wrong, and it can't
know which.

Used by the background role (sweep, audit, warnings) and by `gate doctor`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gate.clock import monotonic_ms, wall_ms
from gate.store.client import Client
from gate.store.link import Reply
from gate.store.registry import READ, Registry, parse_registry

MARGIN_MS = 60_000
"""Facts stay so long past their end: a node that is cut off is in no list, and its clock may be behind. Costs only room."""
WARN_APART_MS = 1_000
MOST_APART_MS = 5_000
LEAST_LEASE_MS = 3_000


class ClockLook(NamedTuple):
    """All clocks at one moment."""

    seen_at_ms: int
    """On this process's monotonic clock, before anything was asked."""
    server_ms: int
    own_offset_ms: int
    """This machine's wall clock less the server's; what the way there and back may explain is no difference."""
    registry: Registry

    @property
    def offsets_ms(self) -> Mapping[str, int]:
        """Of each listed node: its wall clock less the server's, at its last beat."""
        return {listed.node: listed.clock_offset_ms for listed in self.registry.nodes}

    @property
    def earliest_ms(self) -> int:
        """The moment that every clock has reached."""
        return self.server_ms + min(0, self.own_offset_ms, *self.offsets_ms.values())

    @property
    def spread_ms(self) -> int:
        """How far the two clocks are apart that differ most."""
        offsets = (0, self.own_offset_ms, *self.offsets_ms.values())
        return max(offsets) - min(offsets)

    @property
    def lease_ms(self) -> int:
        """The longest lease of a listed node."""
        return max([LEAST_LEASE_MS, *(listed.ttl_ms for listed in self.registry.nodes)])


async def look_at_clocks(client: Client, now_ms: Callable[[], int] = wall_ms) -> ClockLook:
    """Read the server's clock, this machine's, and the registry. Raises `StoreUnavailable`."""
    seen_at_ms, before_ms = monotonic_ms(), now_ms()
    ((seconds, micros),) = await client.read(("TIME",))
    after_ms = now_ms()
    listed: list[Reply] = await client.query(READ)
    server_ms = int(seconds) * 1_000 + int(micros) // 1_000
    behind_ms, ahead_ms = min(0, after_ms - server_ms), max(0, before_ms - server_ms)
    return ClockLook(seen_at_ms, server_ms, behind_ms or ahead_ms, parse_registry(listed))


class Clocks:
    """What a process has seen of the clocks. `note` each look, about once a second."""

    def __init__(self, margin_ms: int = MARGIN_MS) -> None:
        self._margin_ms = margin_ms
        self._looks: list[ClockLook] = []

    def note(self, look: ClockLook) -> None:
        """Take in a look. Of those that are old enough, only the newest is kept."""
        lease_ms = look.lease_ms
        old_enough = [one for one in self._looks if look.seen_at_ms - one.seen_at_ms >= lease_ms]
        self._looks = [*self._looks[max(0, len(old_enough) - 1) :], look]

    @property
    def over_ms(self) -> int | None:
        """The latest moment that is over by every clock, with the margin; None where that is not known."""
        if len(self._looks) < 2:
            return None
        first, last = self._looks[0], self._looks[-1]
        if last.seen_at_ms - first.seen_at_ms < last.lease_ms:
            return None
        for look in self._looks:
            if abs(look.own_offset_ms) > MOST_APART_MS or not look.registry.is_settled:
                return None
        beats = {(listed.node, listed.run): listed.beat for listed in first.registry.nodes}
        if any(beats.get((listed.node, listed.run)) == listed.beat for listed in last.registry.nodes):
            return None
        return min(look.earliest_ms for look in self._looks) - self._margin_ms
