"""Entries of the audit in one order, and pages of those that match a filter.

There is no index by kind or by actor, so entries are read and compared. That is bounded: a page that has looked at
`MAX_FILTERED` entries ends early, and its cursor goes on behind them. Used by `audit`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from gate.store.audit import AuditEntry

# Some tens of milliseconds, in many turns of the loop.
MAX_FILTERED = 10_000

T = TypeVar("T")


async def page_of_matching(
    batches: AsyncIterator[list[T]], count: int, matches: Callable[[T], bool], cursor_of: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """Return up to `count` entries that match, and the cursor behind the last one that was looked at, None at the end."""
    found: list[T] = []
    looked_at = 0
    async for batch in batches:
        for entry in batch:
            looked_at += 1
            if matches(entry):
                found.append(entry)
            if len(found) == count or looked_at == MAX_FILTERED:
                return found, cursor_of(entry)
    return found, None


def merged(read: Mapping[int, list[AuditEntry]], goes_on: Container[int]) -> list[AuditEntry]:
    """Take entries of all Partitions in one order, the latest first, until one of those that go on has none left.

    Each list has the latest entry at its end.
    """
    taken: list[AuditEntry] = []
    while heads := [entries[-1] for entries in read.values() if entries]:
        # Of equal moments the higher number, then the higher Partition comes first, as in cursors.
        head = max(heads, key=lambda entry: (entry.at_ms, entry.number, entry.partition))
        taken.append(read[head.partition].pop())
        if head.partition in goes_on and not read[head.partition]:
            break
    return taken
