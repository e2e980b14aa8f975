"""What an App in shadow mode would have been denied, counted in bounded memory. Pure; see `docs/shadow.md`.

`ShadowCounts` holds exact counts by reason, and the most frequent senders, recipients and pairs by the Misra-Gries method: once
a table has `2 * TOP` keys, the count of the `TOP + 1`-th is subtracted from all, and keys at 0 are dropped. So a shown count is
never too high, and too low by at most a `TOP`-th of all denials. Tables of several processes are added in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from gate.core.verdict import Word

Key = TypeVar("Key")

# Keys that a table keeps when it is pruned.
TOP = 100


class ShadowCounts(msgspec.Struct, kw_only=True):
    """One App's denials of one stretch of time. Ids are `bytes`; of a pair, the two ids in one tuple."""

    checks: int = 0
    """All checks, also those that were allowed."""
    reasons: dict[str, int] = {}
    senders: dict[bytes, int] = {}
    recipients: dict[bytes, int] = {}
    pairs: dict[tuple[bytes, bytes], int] = {}

    @property
    def denials(self) -> int:
        """All checks that the rules denied."""
        return sum(self.reasons.values())

    def note(self, sender: bytes, recipient: bytes, word: Word) -> None:
        """Count one denial."""
        self.reasons[word] = self.reasons.get(word, 0) + 1
        add_top(self.senders, {sender: 1})
        add_top(self.recipients, {recipient: 1})
        add_top(self.pairs, {(sender, recipient): 1})

    def add(self, other: ShadowCounts) -> None:
        """Add the counts of another stretch or process."""
        self.checks += other.checks
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        add_top(self.senders, other.senders)
        add_top(self.recipients, other.recipients)
        add_top(self.pairs, other.pairs)


def add_top(table: dict[Key, int], more: Mapping[Key, int]) -> None:
    """Add counts to a table of the most frequent keys, and prune it at `2 * TOP` keys."""
    for key, count in more.items():
        table[key] = table.get(key, 0) + count
    if len(table) >= 2 * TOP:
        below = sorted(table.values(), reverse=True)[TOP]
        kept = {key: count - below for key, count in table.items() if count > below}
        table.clear()
        table.update(kept)


def most_frequent(table: Mapping[Key, int], count: int) -> list[tuple[Key, int]]:
    """Return the keys with the highest counts, the highest first; equal ones in the order of their keys."""
    return sorted(table.items(), key=lambda one: (-one[1], one[0]))[:count]
