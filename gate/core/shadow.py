"""What an App in shadow mode would have been denied, counted in bounded memory. Pure; see `docs/shadow.md`.

`ShadowCounts` holds exact counts by reason, and the most frequent senders, recipients and pairs by the Misra-Gries method: once
a table has `2 * TOP` keys, the count of the `TOP + 1`-th is subtracted from all, and keys at 0 are dropped. So a shown count is
never too high, and too low by at most a `TOP`-th of all denials. Tables of several processes are added in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from gate.core.verdict import Word

Key = TypeVar("Key")

HOUR_MS = 3_600_000
HOURS_A_DAY = 24

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


class HourOfShadow(NamedTuple):
    """The exact counts of one hour."""

    hour: int
    """Since 1970, UTC."""
    checks: int
    reasons: dict[str, int]


class DayOfShadow(NamedTuple):
    """The most frequent Users and pairs of one day."""

    day: int
    """Since 1970, UTC."""
    senders: dict[bytes, int]
    recipients: dict[bytes, int]
    pairs: dict[tuple[bytes, bytes], int]


class ShadowHistory(NamedTuple):
    """All that is kept of one App, the oldest first."""

    hours: list[HourOfShadow]
    days: list[DayOfShadow]

    def since(self, day: int) -> ShadowHistory:
        """The part from this day on."""
        return ShadowHistory(
            [one for one in self.hours if one.hour >= day * HOURS_A_DAY], [one for one in self.days if one.day >= day]
        )

    def total(self) -> ShadowCounts:
        """The sum of all hours and days."""
        total = ShadowCounts()
        for hour in self.hours:
            total.add(ShadowCounts(checks=hour.checks, reasons=hour.reasons))
        for day in self.days:
            total.add(ShadowCounts(senders=day.senders, recipients=day.recipients, pairs=day.pairs))
        return total


def shadow_report(history: ShadowHistory, top: int) -> dict[str, Any]:
    """`{since_ms, checks, denials, share, reasons, senders, recipients, pairs, hours}`, for people and programs.

    `since_ms` is the first hour that has counts, None without any. Users are bytes; `share` is of all checks, 0 to 1.
    """
    total = history.total()
    return {
        "since_ms": history.hours[0].hour * HOUR_MS if history.hours else None,
        "checks": total.checks,
        "denials": total.denials,
        "share": total.denials / total.checks if total.checks else 0.0,
        "reasons": dict(most_frequent(total.reasons, len(total.reasons))),
        "senders": most_frequent(total.senders, top),
        "recipients": most_frequent(total.recipients, top),
        "pairs": most_frequent(total.pairs, top),
        "hours": [
            {
                "at_ms": one.hour * HOUR_MS,
                "checks": one.checks,
                "denials": sum(one.reasons.values()),
                "reasons": one.reasons,
            }
            for one in history.hours
        ],
    }
