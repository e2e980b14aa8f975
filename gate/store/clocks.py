"""The clocks that decide which facts have ended: the wall clock of every node, and the server's.

Each node ends a fact by its own wall clock. A deletion affects all nodes, so a moment counts as *over* only once all clocks
have passed it, plus a margin. Each node's replicator records in the registry, with every beat, the difference between its
clock and the server's; this node's own difference is measured at each reading.

A clock may step between a beat and a reading, and a step of the server's clock falsifies every recorded difference. So the
readings of a whole lease count: a moment is over if it was so in each, and every node in both the first and the last has beaten
in between. A node whose clock differs from the server's by more than `MOST_APART_MS` considers nothing over: one of the two is
wrong, and the node can't know which.

Takeover of another worker's claim uses no wall clock: a `Watch` has seen the claim unchanged for long enough on this process's
monotonic clock. Where Redis itself dates attempts, a `Pace` detects a step of its clock.

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

# Facts are kept this long past their end: a disconnected node is in no list, and its clock may be behind. Costs only room.
MARGIN_MS = 60_000
WARN_APART_MS = 1_000
MOST_APART_MS = 5_000
LEAST_LEASE_MS = 3_000
# Excess over what two readings can explain that means a step. A slewed clock gains 0.5 ms a second.
STEP_MS = 1_000

Name = TypeVar("Name", bound=Hashable)


class ClockLook(NamedTuple):
    """All clocks at one moment."""

    seen_at_ms: int
    """On this process's monotonic clock, before any clock was read."""
    server_ms: int
    own_offset_ms: int
    """This machine's wall clock minus the server's, as far as the round trip can't explain the difference."""
    registry: Registry

    @property
    def offsets_ms(self) -> Mapping[str, int]:
        """Wall clock minus the server's of each listed node, at its last beat."""
        return {listed.node: listed.clock_offset_ms for listed in self.registry.nodes}

    @property
    def earliest_ms(self) -> int:
        """The moment that every clock has reached."""
        return self.server_ms + min(0, self.own_offset_ms, *self.offsets_ms.values())

    @property
    def spread_ms(self) -> int:
        """The largest difference between two clocks."""
        offsets = (0, self.own_offset_ms, *self.offsets_ms.values())
        return max(offsets) - min(offsets)

    @property
    def lease_ms(self) -> int:
        """The longest lease of a listed node."""
        return max([LEAST_LEASE_MS, *(listed.ttl_ms for listed in self.registry.nodes)])


async def look_at_clocks(client: Client, now_ms: Callable[[], int] = wall_ms) -> ClockLook:
    """Read the server's clock, this machine's, and the registry. Raises `StoreUnavailable`."""
    seen_at_ms, before_ms = monotonic_ms(), now_ms()
    ((seconds, micros),) = await client.read(("TIME",), at=NODES)  # the server with which nodes compare their clocks
    after_ms = now_ms()
    listed: list[Reply] = await client.query(READ)
    server_ms = int(seconds) * 1_000 + int(micros) // 1_000
    # The server read its clock between our two readings; only a time outside of that interval is a difference.
    behind_ms, ahead_ms = min(0, after_ms - server_ms), max(0, before_ms - server_ms)
    return ClockLook(seen_at_ms, server_ms, behind_ms or ahead_ms, parse_registry(listed))


class Clocks:
    """A process's readings of the clocks. Call `note` with each, about once a second."""

    def __init__(self, margin_ms: int = MARGIN_MS) -> None:
        self._margin_ms = margin_ms
        self.looks: list[ClockLook] = []

    def note(self, look: ClockLook) -> None:
        """Add a reading. Of those that are older than a lease, only the newest is kept."""
        lease_ms = look.lease_ms
        old_enough = [one for one in self.looks if look.seen_at_ms - one.seen_at_ms >= lease_ms]
        self.looks = [*self.looks[max(0, len(old_enough) - 1) :], look]

    @property
    def over_ms(self) -> int | None:
        """The latest moment that is over by every clock, with the margin; None if unknown."""
        # One reading proves nothing about a lease.
        if len(self.looks) < 2:
            return None
        first, last = self.looks[0], self.looks[-1]
        if last.seen_at_ms - first.seen_at_ms < last.lease_ms:
            return None
        for look in self.looks:
            if abs(look.own_offset_ms) > MOST_APART_MS or not look.registry.is_settled:
                return None
        # By run: a restarted node begins again to count beats.
        beats = {(listed.node, listed.run): listed.beat for listed in first.registry.nodes}
        # A node that has not beaten since may have stepped its clock unnoticed.
        if any(beats.get((listed.node, listed.run)) == listed.beat for listed in last.registry.nodes):
            return None
        return min(look.earliest_ms for look in self.looks) - self._margin_ms


class Watch(Generic[Name]):
    """How long each claim has been unchanged, on this process's monotonic clock. A live worker changes its own claim."""

    def __init__(self) -> None:
        self._seen: dict[Name, tuple[object, int]] = {}

    def unchanged_ms(self, name: Name, claim: object, monotonic_ms: int) -> int:
        """Record a claim. Returns how long it was unchanged; 0 for a new one."""
        seen, since_ms = self._seen.get(name, (None, monotonic_ms))
        # Any change, even to a lower value, shows a live worker.
        if seen != claim:
            since_ms = monotonic_ms
        self._seen[name] = claim, since_ms
        return monotonic_ms - since_ms

    def keep_only(self, names: Collection[Name]) -> None:
        """Forget all claims but these."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}

    def drop(self, name: Name) -> None:
        """Forget this claim, so that its next reading is the first."""
        self._seen.pop(name, None)


class Pace:
    """Measures since when the server's clock has kept pace with the monotonic clock. Call `note` with each reading."""

    def __init__(self) -> None:
        self._since_ms: int | None = None
        self._least_ahead_ms = self._most_ahead_ms = 0

    def note(self, server_ms: int, asked_at_ms: int, answered_at_ms: int) -> bool:
        """Add a reading, sent and answered at two monotonic moments. Returns True for a step, and for the first reading."""
        # The server read its clock at an unknown moment between request and answer.
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
        """Return how long no step was seen."""
        return 0 if self._since_ms is None else monotonic_ms - self._since_ms

    def latest_ms(self, monotonic_ms: int) -> int:
        """Return the latest value that the server's clock can show, unless it stepped after the last reading."""
        return self._most_ahead_ms + monotonic_ms + STEP_MS
