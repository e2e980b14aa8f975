"""Whether a Changelog can be followed from where this Replica stands, and in what portions.

Contiguous numbers alone do not show every break: a Redis that was restored from an older file and written again past our
Position has the right numbers and another history. So a Position carries the id of its last write, each Change names the
write before it, and whoever begins to follow, or has lost sight of Redis, compares ids before saying that facts are fresh.

Called by the replicator and the loader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gate.core.changes import Change
from gate.core.revision import Position
from gate.errors import ChangelogBroken
from gate.replica.ports import ChangeSource

MAX_SLICE_WEIGHT = 2_000
"""Puts a commit at the most, roughly: some 10 ms for which nothing else runs. LMDB keeps the pages that the last commits
replaced: commits of 5,000 scattered entries left a quarter of a file of 600,000 to them."""

UNREACHED_MS = 2_000
"""For so long the heads may be ahead while nothing comes: a hundred times what a read takes."""


def check_heads(applied: Sequence[Position], heads: Sequence[Position]) -> None:
    """`ChangelogBroken` if these heads can't be the future of what is applied, as far as heads alone show."""
    if len(applied) != len(heads):
        raise ChangelogBroken("partitions", f"there are {len(heads)}, the Replica was loaded from {len(applied)}")
    for partition, (ours, head) in enumerate(zip(applied, heads, strict=True)):
        if ours.epoch != head.epoch:
            raise ChangelogBroken(
                "epoch", f"Partition {partition} has {head.epoch or 'none'}, not {ours.epoch or 'none'}"
            )
        if ours.seq > head.seq:
            raise ChangelogBroken("behind", f"Partition {partition} ends at {head.seq}, {ours.seq} is applied here")
        if ours.seq == head.seq and ours.tip != head.tip:
            raise ChangelogBroken(
                "forked", f"Partition {partition} has another write at {ours.seq} than the one applied"
            )


async def verify_history(source: ChangeSource, applied: Sequence[Position]) -> list[Position]:
    """The heads, having proved that following on from `applied` is sound. `ChangelogBroken`, `StoreUnavailable`."""
    heads = await source.heads()
    check_heads(applied, heads)
    for partition, (ours, head) in enumerate(zip(applied, heads, strict=True)):
        if head.seq > ours.seq:
            await _verify_link(source, partition, ours)
    return heads


async def _verify_link(source: ChangeSource, partition: int, ours: Position) -> None:
    """The entry behind ours must still be there; ours may be trimmed, since the next one names the write before it."""
    if await source.write_id_at(partition, ours.seq + 1) is None:
        raise ChangelogBroken("trimmed", f"Partition {partition} no longer holds {ours.seq + 1}")
    at_ours = await source.write_id_at(partition, ours.seq) if ours.seq else None
    if at_ours is not None and at_ours != ours.tip:
        raise ChangelogBroken("forked", f"Partition {partition} has another write at {ours.seq} than the one applied")


def reached(applied: Sequence[Position], heads: Sequence[Position]) -> bool:
    """Whether everything up to `heads` is applied."""
    return all(ours.seq >= head.seq for ours, head in zip(applied, heads, strict=True))


def lag(applied: Sequence[Position], heads: Sequence[Position]) -> int:
    """How many Changes are still to be applied."""
    return sum(max(0, head.seq - ours.seq) for ours, head in zip(applied, heads, strict=True))


class Pursuit:
    """The heads that Redis named last, until everything up to them is applied."""

    def __init__(self) -> None:
        self.asked_at_ms = 0
        self._heads: list[Position] | None = None
        self._stuck_since_ms: int | None = None
        self.times_stuck = 0
        """Since heads were reached last."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing that is still to be reached."""
        return self._heads is None

    def begin(self, asked_at_ms: int, heads: list[Position] | None) -> None:
        """Heads that were asked for at a moment; None where they are no ground for calling facts fresh."""
        self.asked_at_ms, self._heads = asked_at_ms, heads

    def end(self) -> None:
        """They are reached, or to be forgotten."""
        self._heads, self.times_stuck = None, 0

    def lag(self, applied: Sequence[Position]) -> int:
        """How many Changes are still to be applied."""
        return lag(applied, self._heads or applied)

    def is_stuck(self, now_ms: int, *, idle: bool) -> bool:
        """Whether nothing has come for `UNREACHED_MS`, although the heads are ahead. No error shows that."""
        if not idle or self._heads is None:
            self._stuck_since_ms = None
        elif self._stuck_since_ms is None:
            self._stuck_since_ms = now_ms
        elif now_ms - self._stuck_since_ms >= UNREACHED_MS:
            self._stuck_since_ms = None
            self.times_stuck += 1
            return True
        return False


def slices(changes: Mapping[int, Sequence[Change]]) -> Iterator[dict[int, Sequence[Change]]]:
    """What one read brought, in portions that are each applied in one commit; usually one. Partition 0, Apps, first."""
    portion: dict[int, Sequence[Change]] = {}
    room = MAX_SLICE_WEIGHT
    for partition in sorted(changes):
        rest = changes[partition]
        while rest:
            count, weight = _fitting(rest, room)
            portion[partition], rest = rest[:count], rest[count:]
            room -= weight
            if rest or room <= 0:
                yield portion
                portion, room = {}, MAX_SLICE_WEIGHT
    if portion:
        yield portion


def _fitting(batch: Sequence[Change], room: int) -> tuple[int, int]:
    """How many Changes go into a portion with so much room, and what they weigh; at least one."""
    weight = 0
    for count, change in enumerate(batch):
        if weight >= room:
            return count, weight
        weight += 1 + len(change.members)
    return len(batch), weight
