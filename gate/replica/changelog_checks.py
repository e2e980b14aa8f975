"""Checks whether a Changelog can be followed from this Replica's Positions, and how far it was.

The checks of heads and Changes themselves are those of `gate.core.changes`. A follower that begins, or that has lost sight of
Redis, compares the ids of writes before it calls its facts fresh.

Called by the replicator and the loader.
"""

from __future__ import annotations

from collections.abc import Sequence

from gate.core.changes import check_heads
from gate.core.revision import Position
from gate.errors import ChangelogBroken
from gate.replica.ports import ChangeSource

# The heads may be ahead for this long while no Change arrives: a hundred times the duration of a read.
UNREACHED_MS = 2_000


async def verify_history(source: ChangeSource, applied: Sequence[Position]) -> list[Position]:
    """Return the heads after proof that following from `applied` is sound. Raises `ChangelogBroken`, `StoreUnavailable`."""
    heads = await source.heads()
    check_heads(applied, heads)
    for partition, (ours, head) in enumerate(zip(applied, heads, strict=True)):
        if head.seq > ours.seq:
            await _verify_link(source, partition, ours)
    return heads


async def _verify_link(source: ChangeSource, partition: int, ours: Position) -> None:
    """The entry after ours must exist. Ours may be trimmed, since the next one names the write before it."""
    if await source.write_id_at(partition, ours.seq + 1) is None:
        raise ChangelogBroken("trimmed", f"Partition {partition} no longer holds {ours.seq + 1}")
    at_ours = await source.write_id_at(partition, ours.seq) if ours.seq else None
    if at_ours is not None and at_ours != ours.tip:
        raise ChangelogBroken("forked", f"Partition {partition} has another write at {ours.seq} than the one applied")


def reached(applied: Sequence[Position], heads: Sequence[Position]) -> bool:
    """Return whether everything up to `heads` is applied."""
    return all(ours.seq >= head.seq for ours, head in zip(applied, heads, strict=True))


def lag(applied: Sequence[Position], heads: Sequence[Position]) -> int:
    """Return the number of Changes still to be applied."""
    return sum(max(0, head.seq - ours.seq) for ours, head in zip(applied, heads, strict=True))


class HeadsTarget:
    """The heads that Redis returned last, until everything up to them is applied."""

    def __init__(self) -> None:
        self.asked_at_ms = 0
        self.is_reached = True
        """Whether no heads remain to be reached."""
        self._heads: list[Position] | None = None
        self._stuck_since_ms: int | None = None
        self.times_stuck = 0
        """Since heads were reached last."""

    def set(self, asked_at_ms: int, heads: list[Position] | None) -> None:
        """Set heads that were requested at a moment; None if they do not permit calling facts fresh."""
        self.asked_at_ms, self._heads, self.is_reached = asked_at_ms, heads, heads is None

    def clear(self) -> None:
        """Forget the heads: they are reached or invalid."""
        self._heads, self.is_reached, self.times_stuck = None, True, 0

    def lag(self, applied: Sequence[Position]) -> int:
        """Return the number of Changes still to be applied."""
        return lag(applied, self._heads or applied)

    def is_stuck(self, now_ms: int, *, idle: bool) -> bool:
        """Return whether no Change came for `UNREACHED_MS` although the heads are ahead. No error reveals that."""
        # Any progress resets the timer.
        if not idle or self._heads is None:
            self._stuck_since_ms = None
        elif self._stuck_since_ms is None:
            self._stuck_since_ms = now_ms
        elif now_ms - self._stuck_since_ms >= UNREACHED_MS:
            # The next report comes only after another full period.
            self._stuck_since_ms = None
            self.times_stuck += 1
            return True
        return False
