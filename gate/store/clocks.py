"""The clocks that decide what has ended: the wall clock of every node, and the server's.

A fact ends on each node by its own wall clock. What is deleted is gone on all of them, so a moment counts as *over* only once
all clocks have passed it, and a margin more. Each node's replicator notes in the registry, with every beat, how far its clock
is from the server's; this node's own is read with each look.

A clock may step between a beat and a look, and the server's then makes every noted difference wrong. So the looks of a whole
lease count: a moment is over if it was so in each, and every node that is in the first and in the last has beaten in between. A
node whose clock is more than `MOST_APART_MS` from the server's takes nothing for over: one of the two is wrong, and it can't
know which.

What a worker may take over from another is judged by no wall clock: a `Watch` has seen the other's claim unchanged for long
enough on this process's monotonic clock. Where Redis itself dates attempts, a `Pace` finds that its clock stepped.

Used by the background role (sweep, audit, warnings, jobs, webhooks) and by `gate doctor`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

from gate.clock import monotonic_ms, wall_ms
from gate.store.client import Client
from gate.store.keys import NODES
from gate.store.link import Reply
from gate.store.registry import READ, Registry, parse_registry

MARGIN_MS = 60_000
"""Facts stay so long past their end: a node that is cut off is in no list, and its clock may be behind. Costs only room."""
WARN_APART_MS = 1_000
MOST_APART_MS = 5_000
LEAST_LEASE_MS = 3_000
STEP_MS = 1_000
"""By so much more than two looks explain has a clock stepped. A clock that is slewed gains 0.5 ms a second."""

Name = TypeVar("Name", bound=Hashable)


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
    ((seconds, micros),) = await client.read(("TIME",), at=NODES)  # the one that nodes compare theirs with
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


class Watch(Generic[Name]):
    """For how long each claim has been the same, on this process's monotonic clock: a worker that lives changes its own."""

    def __init__(self) -> None:
        self._seen: dict[Name, tuple[object, int]] = {}

    def unchanged_ms(self, name: Name, claim: object, monotonic_ms: int) -> int:
        """Take in a look at a claim; 0 for one that is new."""
        seen, since_ms = self._seen.get(name, (None, monotonic_ms))
        if seen != claim:
            since_ms = monotonic_ms
        self._seen[name] = claim, since_ms
        return monotonic_ms - since_ms

    def keep_only(self, names: Collection[Name]) -> None:
        """Drop what is not among these."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}

    def drop(self, name: Name) -> None:
        """A later look at this claim is the first."""
        self._seen.pop(name, None)


class Pace:
    """Since when the server's clock has kept pace with this process's monotonic clock. `note` each look at it."""

    def __init__(self) -> None:
        self._since_ms: int | None = None
        self._least_ahead_ms = self._most_ahead_ms = 0

    def note(self, server_ms: int, asked_at_ms: int, answered_at_ms: int) -> bool:
        """Take in a look, sent and answered at two monotonic moments. True where the clock stepped, and at the first look."""
        least_ms, most_ms = server_ms - answered_at_ms, server_ms - asked_at_ms
        has_stepped = (
            self._since_ms is None
            or least_ms > self._most_ahead_ms + STEP_MS
            or most_ms < self._least_ahead_ms - STEP_MS
        )
        if has_stepped:
            self._since_ms = answered_at_ms
        self._least_ahead_ms, self._most_ahead_ms = least_ms, most_ms
        return has_stepped

    def kept_ms(self, monotonic_ms: int) -> int:
        """For how long no step was seen."""
        return 0 if self._since_ms is None else monotonic_ms - self._since_ms

    def latest_ms(self, monotonic_ms: int) -> int:
        """What the server's clock shows at the latest, unless it stepped after the last look."""
        return self._most_ahead_ms + monotonic_ms + STEP_MS
