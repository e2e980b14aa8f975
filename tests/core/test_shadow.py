"""Counts of shadow mode: exact by reason, bounded and never too high by User."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gate.core.shadow import (
    HOUR_MS,
    TOP,
    DayOfShadow,
    HourOfShadow,
    ShadowCounts,
    ShadowHistory,
    add_top,
    most_frequent,
    shadow_report,
)
from harness.seeds import examples


def test_a_denial_counts_for_its_reason_both_users_and_their_pair() -> None:
    counts = ShadowCounts()
    counts.note(b"a", b"b", "blacklisted")
    counts.note(b"a", b"c", "sender-banned")
    counts.note(b"a", b"c", "sender-banned")
    assert counts.reasons == {"blacklisted": 1, "sender-banned": 2}
    assert (counts.senders, counts.recipients) == ({b"a": 3}, {b"b": 1, b"c": 2})
    assert counts.pairs == {(b"a", b"b"): 1, (b"a", b"c"): 2}
    assert counts.denials == 3


def test_counts_of_two_processes_add_up() -> None:
    one, other = ShadowCounts(checks=5), ShadowCounts(checks=7)
    one.note(b"a", b"b", "blacklisted")
    other.note(b"a", b"b", "blacklisted")
    other.note(b"x", b"y", "sender-muted")
    one.add(other)
    assert (one.checks, one.reasons) == (12, {"blacklisted": 2, "sender-muted": 1})
    assert one.pairs == {(b"a", b"b"): 2, (b"x", b"y"): 1}
    assert one.senders == {b"a": 2, b"x": 1}


def test_a_table_is_pruned_at_twice_its_size() -> None:
    table = dict.fromkeys(map(str, range(2 * TOP - 2)), 3)
    add_top(table, {"frequent": 5})
    assert len(table) == 2 * TOP - 1
    add_top(table, {"one more": 1})
    assert table == {"frequent": 2}


def test_a_pruned_table_keeps_the_most_frequent_half() -> None:
    table = {**dict.fromkeys(range(TOP), 5), **dict.fromkeys(range(TOP, 2 * TOP - 1), 2)}
    add_top(table, {2 * TOP: 2})
    assert table == dict.fromkeys(range(TOP), 3)


def test_the_most_frequent_come_first_and_ties_by_key() -> None:
    assert most_frequent({b"b": 2, b"c": 3, b"a": 2, b"d": 1}, 3) == [(b"c", 3), (b"a", 2), (b"b", 2)]


@given(st.lists(st.integers(0, 3 * TOP) | st.integers(0, 5), max_size=5_000))
@settings(max_examples=examples(30), deadline=None)
def test_a_shown_count_is_never_too_high_and_hardly_too_low(keys: list[int]) -> None:
    table: dict[int, int] = {}
    for key in keys:
        add_top(table, {key: 1})
    exact = Counter(keys)
    assert len(table) < 2 * TOP
    for key, count in exact.items():
        assert count - len(keys) / TOP <= table.get(key, 0) <= count


HOURS = [
    HourOfShadow(47, 4, {"blacklisted": 1}),
    HourOfShadow(48, 10, {"sender-banned": 2, "blacklisted": 1}),
    HourOfShadow(49, 6, {}),
]
DAYS = [
    DayOfShadow(1, {b"a": 1}, {b"b": 1}, {(b"a", b"b"): 1}),
    DayOfShadow(2, {b"a": 1, b"x": 2}, {b"b": 1, b"y": 2}, {(b"a", b"b"): 1, (b"x", b"y"): 2}),
]


def test_a_report_adds_the_hours_and_days() -> None:
    assert shadow_report(ShadowHistory(HOURS, DAYS), 1) == {
        "since_ms": 47 * HOUR_MS,
        "checks": 20,
        "denials": 4,
        "share": 0.2,
        "reasons": {"sender-banned": 2, "blacklisted": 2},
        "senders": [(b"a", 2)],
        "recipients": [(b"b", 2)],
        "pairs": [((b"a", b"b"), 2)],
        "hours": [
            {"at_ms": 47 * HOUR_MS, "checks": 4, "denials": 1, "reasons": {"blacklisted": 1}},
            {"at_ms": 48 * HOUR_MS, "checks": 10, "denials": 3, "reasons": {"sender-banned": 2, "blacklisted": 1}},
            {"at_ms": 49 * HOUR_MS, "checks": 6, "denials": 0, "reasons": {}},
        ],
    }
    assert list(shadow_report(ShadowHistory(HOURS[1:], []), 1)["reasons"]) == ["sender-banned", "blacklisted"]


def test_a_report_without_counts_has_no_share() -> None:
    nothing: dict[str, object] = {"senders": [], "recipients": [], "pairs": [], "hours": []}
    counts: dict[str, object] = {"since_ms": None, "checks": 0, "denials": 0, "share": 0.0, "reasons": {}}
    assert shadow_report(ShadowHistory([], []), 5) == {**counts, **nothing}


def test_a_history_from_a_day_on_has_its_first_hour() -> None:
    assert ShadowHistory(HOURS, DAYS).since(2) == ShadowHistory(HOURS[1:], DAYS[1:])
    assert ShadowHistory(HOURS, DAYS).since(3) == ShadowHistory([], [])
