"""Samples as lines over the last hour: numbers in, what a template needs to draw an SVG out.

    series      name → values (moment in ms, count), the oldest first
    Chart       lines as SVG paths in a box of 1,000 by 100 that the browser stretches; ticks with their place in per cent

A line has a gap where no sample was taken, for example while Redis was unreachable: the count is unknown there. Past
`MAX_LINES` lines, the smallest are summed as `REST`. Names are as samples have them; a sample uses the name "" for what it
summed itself, which is added to `REST`.

Pure. Called by the view of who is online.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from gate.core.presence import SAMPLE_EVERY_MS, Sample

# A reader can't distinguish more lines in one chart.
MAX_LINES = 8
# The name of what is summed.
REST = ""
# Samples from one row of the table to the next.
ROW_EVERY = 20
# One sample that came late is no gap; two that are missing are.
GAP_MS = SAMPLE_EVERY_MS * 5 // 2
# The box that lines are drawn in.
WIDTH, HEIGHT = 1_000, 100
# Per cent: a label so near to an end of its axis would run out of the page, or, moved in, into the next one on a telephone.
EDGE = 5.0
# Of the scale: below that, ticks of whole Sessions would be one on the other.
LEAST_TOP = 4

Values = Sequence[tuple[int, float]]
Series = Mapping[str, Values]


class Line(NamedTuple):
    """One line: its place among the colours, its path, and its newest and highest count."""

    name: str
    place: int
    path: str
    now: float
    most: float
    values: Sequence[str]
    """At each of the chart's moments; "" for none."""


class Tick(NamedTuple):
    """A label on an axis, maybe empty, and its place: per cent from the left, or from the top."""

    label: str
    at: float


class Row(NamedTuple):
    """A moment of the chart's table."""

    at: str
    values: Sequence[str]


class Chart(NamedTuple):
    """Lines with their axes; the moments of their values; the same as a table."""

    lines: Sequence[Line]
    across: Sequence[Tick]
    down: Sequence[Tick]
    from_ms: int
    to_ms: int
    times: Sequence[int]
    rows: Sequence[Row]


def of_platforms(samples: Sequence[Sample]) -> dict[str, Values]:
    """Sessions of each platform."""
    return of_counts([(one.at_ms, one.by_platform()) for one in samples])


def of_gateways(samples: Sequence[Sample]) -> dict[str, Values]:
    """Sessions of each Gateway; names are visible ASCII."""
    return of_counts([(one.at_ms, {name.decode(): many for name, many in one.by_gateway().items()}) for one in samples])


def chart(
    series: Series, from_ms: int, to_ms: int, *, tick_every_ms: int, top: float = 0, least_top: float = LEAST_TOP
) -> Chart:
    """All of these as lines on one scale, which reaches `top` at least, and `least_top` however low the values are."""
    most = max([top, least_top, *(most_of(values) for values in series.values())])
    step = _step(most)
    # Rounded up without floats going one step too far.
    steps = -int(-most // step)
    highest = steps * step
    times = sorted({at_ms for values in series.values() for at_ms, _ in values if from_ms <= at_ms})
    lines = [
        Line(
            name,
            place,
            _path(values, from_ms, to_ms, highest),
            values[-1][1],
            most_of(values),
            _in_step(values, times),
        )
        for place, (name, values) in enumerate(series.items())
        if values
    ]
    first = -(-from_ms // tick_every_ms) * tick_every_ms
    places = [(at, round((at - from_ms) * 100 / (to_ms - from_ms), 2)) for at in range(first, to_ms + 1, tick_every_ms)]
    across = [Tick(_hour_and_minute(at) if EDGE <= place <= 100 - EDGE else "", place) for at, place in places]
    down = [Tick(shown_value(round(nth * step, 6)), round(100 - nth * 100 / steps, 2)) for nth in range(steps + 1)]
    return Chart(lines, across, down, from_ms, to_ms, times, _rows(lines, times))


def shown_value(value: float) -> str:
    """A count or a rate: with decimals only where they say something."""
    if value == round(value) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}"


def _in_step(values: Values, times: Sequence[int]) -> list[str]:
    """The value at each of these moments, in words; "" without one."""
    known = dict(values)
    return [shown_value(known[at_ms]) if at_ms in known else "" for at_ms in times]


def _rows(lines: Sequence[Line], times: Sequence[int]) -> list[Row]:
    """A value of each line every five minutes, the latest first: more than a screen reader should read is no table."""
    chosen = list(range(len(times) - 1, -1, -ROW_EVERY))
    return [Row(_hour_and_minute(times[nth]), [line.values[nth] for line in lines]) for nth in chosen]


def most_of(values: Values) -> float:
    """The highest value."""
    return max((count for _, count in values), default=0)


def of_counts(sums: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, Values]:
    """Of counts by name, at moments: a line for each of the largest names, the largest first; the others summed, last."""
    most: dict[str, float] = {}
    for _, counts in sums:
        for name, count in counts.items():
            most[name] = max(most.get(name, 0), count)
    named = sorted((name for name in most if name != REST), key=lambda name: (-most[name], name))
    kept, rest = (named, most.keys() & {REST}) if len(named) <= MAX_LINES else (named[: MAX_LINES - 1], {*most})
    series: dict[str, Values] = {name: [(at_ms, counts.get(name, 0)) for at_ms, counts in sums] for name in kept}
    if rest:
        others = {*rest, REST} - {*kept}
        series[REST] = [(at_ms, sum(counts.get(name, 0) for name in others)) for at_ms, counts in sums]
    return series


def _path(values: Values, from_ms: int, to_ms: int, highest: float) -> str:
    shown = [(at_ms, count) for at_ms, count in values if from_ms <= at_ms <= to_ms + SAMPLE_EVERY_MS]
    parts: list[str] = []
    for (before_ms, _), (at_ms, count) in pairwise([(-GAP_MS, 0), *shown]):
        x = min((at_ms - from_ms) * WIDTH / (to_ms - from_ms), WIDTH)
        # The zero-length line makes a dot of a sample that stands alone.
        begins = at_ms - before_ms > GAP_MS or not parts
        parts.append(f"{'M' if begins else 'L'}{x:.1f} {HEIGHT - count * HEIGHT / highest:.2f}{'h0' if begins else ''}")
    return "".join(parts)


def _step(highest: float) -> float:
    """Between ticks: 1, 2 or 5 times a power of ten, so that there are 3 to 6 of them."""
    power = 10.0 ** math.floor(math.log10(highest / 5))
    while True:
        for factor in (1, 2, 5):
            if factor * power * 5 >= highest:
                return factor * power
        power *= 10


def _hour_and_minute(at_ms: int) -> str:
    minutes = at_ms // 60_000
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}"
