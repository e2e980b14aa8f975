"""Whether a Changelog goes on from a Position: the checks of every follower, the replicator and the session revoker.

Contiguous numbers alone do not show every break: a Redis that was restored from an older file, and written again past a
Position, has the right numbers and another history. So a Position carries the id of its last write, and each Change names the
write before it.

Pure. Called by `gate.replica` and `gate.presence.session_revoker`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gate.core.changes import Change
from gate.core.revision import Position
from gate.errors import ChangelogBroken


def check_follows(position: Position, changes: Sequence[Change]) -> Position:
    """The Position after `changes`, or `ChangelogBroken` if one is not directly after the previous one."""
    epoch, seq, tip = position
    for change in changes:
        if change.seq != seq + 1:
            raise ChangelogBroken("hole", f"after seq {seq} came {change.seq}")
        if change.previous_write_id != tip:
            raise ChangelogBroken("forked", f"seq {change.seq} follows another write than the one applied before it")
        seq, tip = change.seq, change.write_id
    return Position(epoch, seq, tip)


def check_heads(applied: Sequence[Position], heads: Sequence[Position]) -> None:
    """`ChangelogBroken` if these heads can't be the future of what is applied, as far as heads alone show."""
    if len(applied) != len(heads):
        raise ChangelogBroken("partitions", f"there are {len(heads)}, the Replica was loaded from {len(applied)}")
    for partition, (ours, head) in enumerate(zip(applied, heads, strict=True)):
        if ours.epoch != head.epoch:
            raise ChangelogBroken(
                "epoch", f"Partition {partition} has {head.epoch or 'none'}, not {ours.epoch or 'none'}"
            )
        # Redis lost writes that are applied here.
        if ours.seq > head.seq:
            raise ChangelogBroken("behind", f"Partition {partition} ends at {head.seq}, {ours.seq} is applied here")
        # The same number, but another write.
        if ours.seq == head.seq and ours.tip != head.tip:
            raise ChangelogBroken(
                "forked", f"Partition {partition} has another write at {ours.seq} than the one applied"
            )
