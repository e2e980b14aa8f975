"""Text form of ids, moments and durations for people, the same on a terminal and in a browser.

Pure. Called by the command line and by the console.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from gate.core.ids import shown
from gate.core.model import FOREVER_MS

# The end of the year 9999; `datetime` has no later moment.
LAST_MS = 253_402_300_799_999


def shown_text(text: str) -> str:
    """Return untrusted text as one line. Unprintable characters are escaped, so they cannot move a cursor, forge a line or
    reverse text. Escape sequences, line ends, bidi controls and lone surrogates are unprintable; letters of any script are not.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown_id(raw: bytes) -> str:
    """Return an id in one line, safe for a terminal, see `shown_text`."""
    return shown_text(shown(raw))


def shown_moment(moment_ms: int) -> str:
    """Return UTC to the second, or `never` for no end."""
    if moment_ms >= FOREVER_MS:
        return "never"
    return datetime.fromtimestamp(min(moment_ms, LAST_MS) / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def duration_parts(duration_ms: int) -> tuple[int, str]:
    """Return a duration as a count and its largest useful unit: `ms`, `s`, `min`, `h` or `d`."""
    for unit, unit_ms, below in (("ms", 1, 1_000), ("s", 1_000, 120), ("min", 60_000, 120), ("h", 3_600_000, 48)):
        if duration_ms < unit_ms * below:
            return duration_ms // unit_ms, unit
    return duration_ms // 86_400_000, "d"


def shown_duration(duration_ms: int) -> str:
    """Return a duration in the largest useful unit: `850 ms`, `12 s`, `3 min`, `5 h`, `9 d`."""
    count, unit = duration_parts(duration_ms)
    return f"{count} {unit}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 user`, `3 users`, `12,000 entries`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def shown_facts(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the facts that a rule used, as (name in words, value)."""
    return [(name.replace("_", " "), _shown_fact(name, fact)) for name, fact in facts.items()]


def _shown_fact(name: str, fact: object) -> str:
    if fact is None:
        return "none"
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, int) and name.endswith("until"):
        return shown_moment(fact)
    return str(fact)
