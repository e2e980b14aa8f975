"""Moments: every way to name one, every way to get it wrong."""

from __future__ import annotations

import pytest

from gate.cli.time_format import one_end, parse_moment, shown_duration, shown_moment
from gate.core.model import FOREVER_MS, LONGEST_DURATION_S
from gate.errors import InvalidInput

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "moment_ms"),
    [
        ("1700000000001", 1_700_000_000_001),
        ("2023-11-14T22:13:20Z", NOW_MS),
        ("2023-11-15T06:13:20+08:00", NOW_MS),
        ("2023-11-14 22:13:20.500+00:00", NOW_MS + 500),
        (str(FOREVER_MS), FOREVER_MS),
    ],
)
def test_a_moment_is_digits_or_iso_with_a_zone(text: str, moment_ms: int) -> None:
    assert parse_moment(text) == moment_ms


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "2023-11-14", "2023-11-14T22:13:20", "१२", "1e9", "9" * 15])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_moment(text)


def test_a_moment_without_a_zone_is_refused_with_an_example() -> None:
    with pytest.raises(InvalidInput, match="must name its zone: 2023-11-14T22:13:20Z"):
        parse_moment("2023-11-14T22:13:20")


def test_an_end_is_named_in_one_way() -> None:
    assert one_end(NOW_MS, minutes=2) == NOW_MS + 120_000
    assert one_end(NOW_MS, seconds=2) == NOW_MS + 2_000
    assert one_end(NOW_MS, until=str(NOW_MS + 1)) == NOW_MS + 1
    assert one_end(NOW_MS, permanent=True) == FOREVER_MS
    assert one_end(NOW_MS, required=False) == FOREVER_MS


@pytest.mark.parametrize(
    ("ways", "problem"),
    [
        ({}, "say when it ends"),
        ({"minutes": 1, "permanent": True}, "minutes and permanent, not both"),
        ({"minutes": 1, "seconds": 1, "until": "5"}, "one of seconds, minutes, until"),
        ({"seconds": 0}, "at least 1"),
        ({"seconds": LONGEST_DURATION_S + 1}, "hundred years"),
        ({"minutes": -1}, "at least 1"),
    ],
)
def test_an_end_named_twice_or_not_at_all_is_refused(ways: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        one_end(NOW_MS, **ways)  # type: ignore[arg-type]


def test_shown() -> None:
    assert shown_moment(NOW_MS) == "2023-11-14 22:13:20Z"
    assert shown_moment(FOREVER_MS) == "never"
    assert [shown_duration(ms) for ms in (0, 999, 1_000, 119_999, 120_000, 7_200_000, 200_000_000)] == [
        "0 ms",
        "999 ms",
        "1 s",
        "119 s",
        "2 min",
        "2 h",
        "2 d",
    ]
