"""When a fact ends, as a request may say it: at a moment, after some seconds, or never."""

from __future__ import annotations

from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput

FIRST_UNTIL_MS = 100_000_000_000
"""A moment before this (1973) is one in seconds that was meant in milliseconds."""
MAX_SECONDS = 100 * 366 * 86_400
"""A century; longer is `permanent`."""


def end_ms(
    until: int | None, seconds: int | None, permanent: bool, now_ms: int, problems: list[InvalidInput]
) -> int | None:
    """The end, `FOREVER_MS` for never, None where the request says nothing; mistakes are added to `problems`."""
    said = [
        name
        for name, given in (("until", until is not None), ("seconds", seconds is not None), ("permanent", permanent))
        if given
    ]
    if len(said) > 1:
        problems.append(InvalidInput(said[1], f"must not come together with {said[0]}"))
    if until is not None and not FIRST_UNTIL_MS <= until <= FOREVER_MS:
        problems.append(InvalidInput("until", f"must be Unix time in milliseconds, {until} was sent"))
    if seconds is not None and not 1 <= seconds <= MAX_SECONDS:
        problems.append(InvalidInput("seconds", f"must be 1 to {MAX_SECONDS}, {seconds} was sent"))
    if until is not None:
        return until
    if seconds is not None:
        return now_ms + seconds * 1_000
    return FOREVER_MS if permanent else None
