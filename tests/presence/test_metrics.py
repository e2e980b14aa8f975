"""Values of the metrics: the oldest beat of the last one or two leases, and no more series than the limit."""

from __future__ import annotations

import pytest

from gate.presence import metrics
from gate.presence.metrics import BoundedSeries, OldestBeat

TTL_MS = 1_000


class TestOldestBeat:
    def test_it_is_the_highest_of_the_last_lease_or_two(self) -> None:
        beat = OldestBeat(TTL_MS)
        assert beat.ratio == 0
        for now_ms, age_ms, ratio in ((5_000, 100, 0.1), (5_400, 800, 0.8), (5_999, 0, 0.8), (6_100, 300, 0.8)):
            beat.note(age_ms, now_ms)
            assert beat.ratio == ratio, now_ms
        beat.note(100, 7_100)
        assert beat.ratio == 0.3

    def test_what_was_long_ago_is_over_though_nothing_was_noted_since(self) -> None:
        beat = OldestBeat(TTL_MS)
        beat.note(900, 5_000)
        beat.note(0, 7_000)
        assert beat.ratio == 0

    def test_a_late_look_shows(self) -> None:
        beat = OldestBeat(TTL_MS)
        beat.note(1_500, 5_000)
        assert beat.ratio == 1.5


class TestBoundedSeries:
    def test_what_is_gone_is_shown_as_none(self) -> None:
        shown: dict[tuple[str, ...], int] = {}
        series = BoundedSeries(2, shown.__setitem__)
        series.set({("app", "iOS"): 2, ("app", "Web"): 1})
        series.set({("app", "Web"): 3})
        assert shown == {("app", "iOS"): 0, ("app", "Web"): 3, ("", ""): 0}

    def test_the_largest_have_a_series_of_their_own_and_the_sum_stays_right(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(metrics, "MAX_SERIES", 2)
        shown: dict[tuple[str, ...], int] = {}
        series = BoundedSeries(1, shown.__setitem__)
        series.set({("a",): 1, ("b",): 5, ("c",): 3, ("d",): 2})
        assert shown == {("b",): 5, ("c",): 3, ("",): 3}
        for number in range(100):
            series.set({(f"x{number}",): 7, ("c",): 4})
        assert shown == {("b",): 0, ("c",): 4, ("",): 7}

    def test_a_name_that_is_empty_is_among_the_rest(self) -> None:
        shown: dict[tuple[str, ...], int] = {}
        BoundedSeries(2, shown.__setitem__).set({("a", ""): 2, ("a", "iOS"): 1})
        assert sum(shown.values()) == 3
