"""Moments as people and files write them, and as the terminal shows them.

A Ban or a list entry ends at a moment, and there are five ways to name one: a duration (`7d`), so many minutes or seconds from
now, a moment itself, or never. A moment without a zone is refused rather than guessed: the operator's zone, the server's
and the App's may all differ, and a Ban that ends eight hours late is a complaint.

Pure: `now_ms` is an argument. Called by the commands that impose or block, and by the import for each line.
"""

from __future__ import annotations

import re
from datetime import datetime

from gate.core.model import FOREVER_MS, LONGEST_DURATION_S
from gate.core.shown import LAST_MS
from gate.core.shown import shown_duration as shown_duration
from gate.core.shown import shown_moment as shown_moment
from gate.errors import InvalidInput


def parse_moment(text: str, parameter: str = "until") -> int:
    """Unix ms out of digits (ms) or ISO 8601 with its zone; `InvalidInput` says which forms there are."""
    # `isdigit` alone takes digits of other scripts. 16 of them are past the year 9999, and refused below.
    if text.isascii() and text.isdigit() and len(text) <= 16:
        return _in_range(int(text), parameter)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            parameter, f"must be Unix milliseconds or a moment as 2030-01-31T18:00:00Z, got {text[:80]!r}"
        ) from None
    # Never guessed: see the head of this file.
    if moment.tzinfo is None:
        raise InvalidInput(parameter, f"must name its zone: {text[:80]}Z or {text[:80]}+08:00")
    return _in_range(int(moment.timestamp() * 1_000), parameter)


def _in_range(moment_ms: int, parameter: str) -> int:
    # Exports of Gate itself write no end so, and must import.
    if moment_ms >= FOREVER_MS:
        return FOREVER_MS
    if not 0 < moment_ms <= LAST_MS:
        raise InvalidInput(parameter, f"must lie between 1970 and 9999, got {moment_ms} ms")
    return moment_ms


_UNITS_S = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
# Largest unit first, each at most once: `1h2h` is a mistake, not three hours.
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>\d{{1,9}}){unit})?" for unit in _UNITS_S))


def parse_duration(text: str, parameter: str = "for") -> int:
    """Seconds out of a duration as people type it: `7d`, `90m`, `2h30m`; `InvalidInput` says which forms there are."""
    # Every part of the pattern may be missing, so it fits an empty text too.
    match = _DURATION.fullmatch(text.strip().lower().replace(" ", ""))
    if match is None or not any(match.groups()):
        raise InvalidInput(parameter, f"must be a duration as 7d, 90m or 2h30m (w, d, h, m, s), got {text[:40]!r}")
    return sum(int(number) * _UNITS_S[unit] for unit, number in match.groupdict().items() if number)


def given_seconds(text: str, parameter: str) -> int:
    """Seconds out of digits, or out of a duration as people type it."""
    # Twelve digits are thirty thousand years; `int` of a longer text is slow, and of thousands an error.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else parse_duration(text, parameter)


def after(now_ms: int, duration_s: int, parameter: str) -> int:
    """The moment so many seconds from now; `InvalidInput` unless 1 second to a hundred years."""
    # A century: past it a mistyped number is more likely than a wish.
    if not 1 <= duration_s <= LONGEST_DURATION_S:
        raise InvalidInput(parameter, "must be at least 1 and at most a hundred years; for no end say permanent")
    return now_ms + duration_s * 1_000


def one_end(
    now_ms: int,
    *,
    seconds: int | None = None,
    minutes: int | None = None,
    duration: str | None = None,
    until: str | None = None,
    permanent: bool = False,
    required: bool = True,
) -> int:
    """The one end that was named; `FOREVER_MS` for permanent, or for none where it is not required."""
    named = [
        name
        for name, given in (
            ("seconds", seconds is not None),
            ("minutes", minutes is not None),
            ("for", duration is not None),
            ("until", until is not None),
            ("permanent", permanent),
        )
        if given
    ]
    # Two ends can't both hold, and which one was meant decides about a person: refused, not chosen.
    if len(named) > 1:
        raise InvalidInput(
            "end",
            f"say one of {' and '.join(named)}, not both" if len(named) == 2 else f"say one of {', '.join(named)}",
        )
    if not named and required:
        raise InvalidInput("end", "say when it ends: for, minutes, seconds, until or permanent")
    if seconds is not None:
        return after(now_ms, seconds, "seconds")
    if minutes is not None:
        return after(now_ms, minutes * 60, "minutes")
    if duration is not None:
        return after(now_ms, parse_duration(duration), "for")
    if until is not None:
        return parse_moment(until)
    return FOREVER_MS


def future(until_ms: int, now_ms: int) -> int:
    """The end of a fact that begins now. Raises `InvalidInput` if it is past."""
    if until_ms <= now_ms:
        raise InvalidInput("until", f"is past: {shown_moment(until_ms)}")
    return until_ms


def json_moment(moment_ms: int) -> int | None:
    """The JSON form of a moment: Unix ms, null for no end."""
    return None if moment_ms >= FOREVER_MS else moment_ms
