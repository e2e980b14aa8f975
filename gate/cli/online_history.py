"""How `gate online --history` draws the last hour: a line of sixty minutes for Users, Sessions and each platform.

Each line is scaled to its own highest value. A minute in which no sample was taken is a dot: its value is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gate.cli.output import counted, print_json, print_table, say
from gate.core.presence import SAMPLE_EVERY_MS, Sample

MINUTES = 60
_BARS = "▁▂▃▄▅▆▇█"
_UNKNOWN = "·"
_REST = "(others)"
"""The platform "" of a sample: see `Sample`."""


def print_history(samples: Sequence[Sample], now_ms: int, *, as_json: bool) -> None:
    """The last hour, word for word as GET /v1/presence/history has it, or as lines; `samples` the oldest first."""
    if as_json:
        print_json(
            {"every_ms": SAMPLE_EVERY_MS, "samples": [{"at_ms": one.at_ms, **one.document()} for one in samples]}
        )
    elif samples:
        print_table(("online", "last hour", "least", "most", "now"), _rows(samples, now_ms))
        say(f"{counted(len(samples), 'sample')}, one every {SAMPLE_EVERY_MS // 1_000} s")
    else:
        say("no sample was taken in the last hour")


def sparkline(values: Sequence[tuple[int, int]], now_ms: int) -> str:
    """A character a minute, the newest last, of (moment in ms, value): each minute's highest, against the highest of all."""
    highest = [-1] * MINUTES
    for at_ms, value in values:
        # A sample that the server dated a little ahead of this clock is of now.
        minutes_ago = max(0, now_ms - at_ms) // 60_000
        if minutes_ago < MINUTES:
            highest[-1 - minutes_ago] = max(highest[-1 - minutes_ago], value)
    top = max(1, *highest)
    return "".join(_UNKNOWN if one < 0 else bar_of(one, top) for one in highest)


def bar_of(value: int, top: int) -> str:
    """One character whose height is the value's share of `top`, which is at least 1."""
    return _BARS[-(-value * (len(_BARS) - 1) // top)]


def _rows(samples: Sequence[Sample], now_ms: int) -> Iterator[tuple[str, ...]]:
    yield _row("Users", [(one.at_ms, one.users) for one in samples], now_ms)
    yield _row("Sessions", [(one.at_ms, one.total) for one in samples], now_ms)
    by_platform = [(one.at_ms, one.by_platform()) for one in samples]
    # Platforms with Users now come first, the one with the most Users first; then platforms without any.
    names = dict.fromkeys(name for _, sums in reversed(by_platform) for name in sums)
    for name in names:
        yield _row(name or _REST, [(at_ms, sums.get(name, 0)) for at_ms, sums in by_platform], now_ms)


def _row(name: str, values: Sequence[tuple[int, int]], now_ms: int) -> tuple[str, ...]:
    numbers = [value for _, value in values]
    return name, sparkline(values, now_ms), f"{min(numbers):,}", f"{max(numbers):,}", f"{numbers[-1]:,}"
