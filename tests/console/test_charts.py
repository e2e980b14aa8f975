"""Samples as lines: scales, ticks, gaps, and what is summed."""

from __future__ import annotations

import re

import pytest

from gate.console.charts import MAX_LINES, REST, chart, of_gateways, of_platforms, shown_value
from gate.core.presence import SAMPLE_EVERY_MS, Sample

HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS + 17 * 60_000


def samples(*sums: dict[tuple[bytes, str], int]) -> list[Sample]:
    """One after the other, the last one now."""
    first_ms = NOW_MS - (len(sums) - 1) * SAMPLE_EVERY_MS
    return [Sample(1, one, first_ms + at * SAMPLE_EVERY_MS) for at, one in enumerate(sums)]


def moves(path: str) -> list[str]:
    return re.findall("[ML]", path)


def test_lines_run_from_an_hour_ago_to_now_the_largest_first() -> None:
    series = of_platforms(samples({(b"g", "Web"): 1, (b"g", "iOS"): 5}, {(b"g", "Web"): 2, (b"h", "iOS"): 10}))
    assert series == {
        "iOS": [(NOW_MS - SAMPLE_EVERY_MS, 5), (NOW_MS, 10)],
        "Web": [(NOW_MS - SAMPLE_EVERY_MS, 1), (NOW_MS, 2)],
    }
    drawn = chart(series, NOW_MS - HOUR_MS, NOW_MS, tick_every_ms=600_000)
    assert [(line.name, line.place, line.now, line.most) for line in drawn.lines] == [
        ("iOS", 0, 10, 10),
        ("Web", 1, 2, 2),
    ]
    assert drawn.lines[0].path == "M995.8 50.00h0L1000.0 0.00"
    assert [tick.label for tick in drawn.down] == ["0", "2", "4", "6", "8", "10"]
    assert [tick.at for tick in drawn.down] == [100, 80, 60, 40, 20, 0]
    assert [tick.label[2:] for tick in drawn.across] == [":20", ":30", ":40", ":50", ":00", ":10"]
    assert drawn.across[0].at == 5


@pytest.mark.parametrize("minute", range(21))
@pytest.mark.parametrize("tick_every_minutes", [10, 20])
def test_no_label_is_pushed_into_the_next_or_out_of_the_page(minute: int, tick_every_minutes: int) -> None:
    """A telephone's chart is some 270 px wide, a label 35."""
    now_ms = NOW_MS + minute * 60_000
    across = chart({}, now_ms - HOUR_MS, now_ms, tick_every_ms=tick_every_minutes * 60_000).across
    assert len(across) >= 60 // tick_every_minutes  # each tick is drawn
    labelled = [tick.at for tick in across if tick.label]
    assert len(labelled) >= 60 // tick_every_minutes - 1
    assert all(5 <= at <= 95 for at in labelled)


def test_a_platform_that_went_is_drawn_at_nothing() -> None:
    series = of_platforms(samples({(b"g", "Web"): 3}, {(b"g", "iOS"): 1}))
    assert [count for _, count in series["Web"]] == [3, 0]
    assert [count for _, count in series["iOS"]] == [0, 1]


def test_a_line_breaks_where_samples_are_missing_and_not_at_a_late_one() -> None:
    at = [
        NOW_MS - 40 * SAMPLE_EVERY_MS + shift
        for shift in (0, SAMPLE_EVERY_MS, 3 * SAMPLE_EVERY_MS, 9 * SAMPLE_EVERY_MS)
    ]
    drawn = chart({"x": [(moment, 1) for moment in at]}, NOW_MS - HOUR_MS, NOW_MS, tick_every_ms=600_000)
    assert moves(drawn.lines[0].path) == ["M", "L", "L", "M"]


def test_samples_before_the_hour_are_not_drawn_those_ahead_are_at_the_edge() -> None:
    values = [(NOW_MS - HOUR_MS - 1, 7), (NOW_MS - 1_000, 2), (NOW_MS + 2_000, 3)]
    drawn = chart({"x": values}, NOW_MS - HOUR_MS, NOW_MS, tick_every_ms=600_000)
    assert len(moves(drawn.lines[0].path)) == 2 and "L1000.0 " in drawn.lines[0].path


def test_past_eight_lines_the_smallest_are_summed_with_the_samples_own_sum() -> None:
    many = {(b"edge-%02d" % at, "iOS"): 100 - at for at in range(MAX_LINES + 4)}
    series = of_gateways(samples({**many, (b"", "iOS"): 1_000}))
    assert list(series) == [*(f"edge-{at:02}" for at in range(MAX_LINES - 1)), REST]
    assert series[REST] == [(NOW_MS, sum(100 - at for at in range(MAX_LINES - 1, MAX_LINES + 4)) + 1_000)]
    few = of_gateways(samples({(b"edge-1", "iOS"): 1, (b"", "iOS"): 2}))
    assert few == {"edge-1": [(NOW_MS, 1)], REST: [(NOW_MS, 2)]}


@pytest.mark.parametrize("most", [0, 1, 3, 4, 9, 10, 11, 99, 101, 999, 1_234, 1_000_000, 123_456_789])
def test_every_scale_holds_its_line_with_a_few_round_ticks(most: int) -> None:
    drawn = chart({"x": [(NOW_MS, most)]}, NOW_MS - HOUR_MS, NOW_MS, tick_every_ms=600_000)
    labels = [int(tick.label.replace(",", "")) for tick in drawn.down]
    assert 3 <= len(labels) <= 6 and labels[0] == 0 and labels[-1] >= most
    assert all(re.fullmatch(r"0|[1-9]0*|[1-9][0-9]0*", str(one)) for one in labels)


def test_no_samples_are_an_empty_chart() -> None:
    drawn = chart(of_platforms([]), NOW_MS - HOUR_MS, NOW_MS, tick_every_ms=600_000)
    assert (drawn.lines, len(drawn.down)) == ([], 5)


def test_values_are_in_step_with_moments_and_each_fifth_minute_is_a_row() -> None:
    slots = range(NOW_MS - 30 * SAMPLE_EVERY_MS, NOW_MS + 1, SAMPLE_EVERY_MS)
    series = {"a": [(at, float(nth)) for nth, at in enumerate(slots)], "b": [(NOW_MS, 0.25)]}
    drawn = chart(series, NOW_MS - HOUR_MS, NOW_MS, tick_every_ms=600_000)
    assert list(drawn.times) == list(slots)
    assert drawn.lines[0].values[:2] == ["0", "1"] and drawn.lines[1].values[-2:] == ["", "0.25"]
    assert [(row.at, row.values) for row in drawn.rows] == [("22:17", ["30", "0.25"]), ("22:12", ["10", ""])]


def test_a_scale_of_small_rates_has_small_steps() -> None:
    drawn = chart({"a": [(NOW_MS, 0.03)]}, NOW_MS - HOUR_MS, NOW_MS, tick_every_ms=600_000, least_top=0.01)
    assert [tick.label for tick in drawn.down] == ["0", "0.01", "0.02", "0.03"]


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (3, "3"), (0.256, "0.26"), (12.34, "12.3"), (1_234.5, "1,234"), (2.0, "2")]
)
def test_a_value_has_decimals_where_they_say_something(value: float, shown: str) -> None:
    assert shown_value(value) == shown
