"""Samples as lines over the last hour: numbers in, what a template needs to draw an SVG out.

    series      name → values (moment in ms, count), the oldest first
    Chart       lines as SVG paths in a box of 1,000 by 100 that the browser stretches; ticks with their place in per cent

A line has a gap where no sample was taken, for example while Redis was unreachable: the count is unknown there. Past
`MAX_LINES` lines, the smallest are summed as `REST`. Names are as samples have them; a sample uses the name "" for what it
summed itself, which is added to `REST`.

Pure. Called by the view of who is online.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from gate.core.presence import SAMPLE_EVERY_MS, Sample

MAX_LINES = 8
"""A reader can't distinguish more lines in one chart."""
REST = ""
"""The name of what is summed."""
GAP_MS = SAMPLE_EVERY_MS * 5 // 2
"""One sample that came late is no gap; two that are missing are."""
WIDTH, HEIGHT = 1_000, 100
"""The box that lines are drawn in."""
EDGE = 5.0
"""Per cent: a label so near to an end of its axis would run out of the page, or, moved in, into the next one on a telephone."""
LEAST_TOP = 4
"""Of the scale: below that, ticks of whole Sessions would be one on the other."""

Values = list[tuple[int, int]]
Series = Mapping[str, Values]


class Line(NamedTuple):
    """One line: its place among the colours, its path, and its newest and highest count."""

    name: str
    place: int
    path: str
    now: int
    most: int


class Tick(NamedTuple):
    """A label on an axis, maybe empty, and its place: per cent from the left, or from the top."""

    label: str
    at: float


class Chart(NamedTuple):
    """Lines with their axes."""

    lines: Sequence[Line]
    across: Sequence[Tick]
    down: Sequence[Tick]


def of_platforms(samples: Sequence[Sample]) -> dict[str, Values]:
    """Sessions of each platform."""
    return _series([(one.at_ms, one.by_platform()) for one in samples])


def of_gateways(samples: Sequence[Sample]) -> dict[str, Values]:
    """Sessions of each Gateway; names are visible ASCII."""
    return _series([(one.at_ms, {name.decode(): many for name, many in one.by_gateway().items()}) for one in samples])


def chart(series: Series, from_ms: int, to_ms: int, *, tick_every_ms: int, top: int = 0) -> Chart:
    """All of these as lines on one scale, which reaches `top` at least."""
    step = _step(max([top, LEAST_TOP, *(count for values in series.values() for _, count in values)]))
    highest = step * -(-max([top, LEAST_TOP, *(most_of(values) for values in series.values())]) // step)
    lines = [
        Line(name, place, _path(values, from_ms, to_ms, highest), values[-1][1], most_of(values))
        for place, (name, values) in enumerate(series.items())
        if values
    ]
    first = -(-from_ms // tick_every_ms) * tick_every_ms
    places = [(at, round((at - from_ms) * 100 / (to_ms - from_ms), 2)) for at in range(first, to_ms + 1, tick_every_ms)]
    across = [Tick(_hour_and_minute(at) if EDGE <= place <= 100 - EDGE else "", place) for at, place in places]
    down = [Tick(f"{count:,}", round(100 - count * 100 / highest, 2)) for count in range(0, highest + 1, step)]
    return Chart(lines, across, down)


def most_of(values: Values) -> int:
    """The highest count."""
    return max((count for _, count in values), default=0)


def _series(sums: Sequence[tuple[int, Mapping[str, int]]]) -> dict[str, Values]:
    """A line for each of the largest names, the largest first; the others summed, last."""
    most: dict[str, int] = {}
    for _, counts in sums:
        for name, count in counts.items():
            most[name] = max(most.get(name, 0), count)
    named = sorted((name for name in most if name != REST), key=lambda name: (-most[name], name))
    kept, rest = (named, most.keys() & {REST}) if len(named) <= MAX_LINES else (named[: MAX_LINES - 1], {*most})
    series = {name: [(at_ms, counts.get(name, 0)) for at_ms, counts in sums] for name in kept}
    if rest:
        others = {*rest, REST} - {*kept}
        series[REST] = [(at_ms, sum(counts.get(name, 0) for name in others)) for at_ms, counts in sums]
    return series


def _path(values: Values, from_ms: int, to_ms: int, highest: int) -> str:
    shown = [(at_ms, count) for at_ms, count in values if from_ms <= at_ms <= to_ms + SAMPLE_EVERY_MS]
    parts: list[str] = []
    for (before_ms, _), (at_ms, count) in pairwise([(-GAP_MS, 0), *shown]):
        x = min((at_ms - from_ms) * WIDTH / (to_ms - from_ms), WIDTH)
        # The zero-length line makes a dot of a sample that stands alone.
        begins = at_ms - before_ms > GAP_MS or not parts
        parts.append(f"{'M' if begins else 'L'}{x:.1f} {HEIGHT - count * HEIGHT / highest:.2f}{'h0' if begins else ''}")
    return "".join(parts)


def _step(highest: int) -> int:
    """Between ticks: 1, 2 or 5 times a power of ten, so that there are 3 to 6 of them."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power * 5 >= highest:
                return factor * power
        power *= 10


def _hour_and_minute(at_ms: int) -> str:
    minutes = at_ms // 60_000
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}"
