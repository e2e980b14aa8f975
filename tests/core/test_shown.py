"""Ids, moments and durations as people read them."""

from __future__ import annotations

import time

import pytest

from gate.core.model import FOREVER_MS
from gate.core.shown import LAST_MS, counted, shown_duration, shown_facts, shown_id, shown_moment, shown_text

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def test_text_that_moves_a_cursor_is_escaped() -> None:
    assert shown_text("") == "" and shown_text("客服 é") == "客服 é"
    assert shown_text("a\x1b[2J\n\u202eb\ud800é") == "a\\x1b[2J\\n\\u202eb\\ud800é"
    assert shown_id(b"ann\r\xff") == "ann\\r\\xff"


def test_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    assert shown_moment(0) == "1970-01-01 00:00:00Z"
    assert shown_moment(1_700_000_000_999) == "2023-11-14 22:13:20Z"
    assert shown_moment(LAST_MS) == shown_moment(LAST_MS + 1) == shown_moment(FOREVER_MS - 1) == "9999-12-31 23:59:59Z"
    assert shown_moment(FOREVER_MS) == shown_moment(FOREVER_MS + 1) == "never"
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0 ms"), (999, "999 ms"), (1_000, "1 s"), (119_999, "119 s"), (120_000, "2 min"),
        (2 * HOUR_MS - 1, "119 min"), (2 * HOUR_MS, "2 h"), (2 * DAY_MS - 1, "47 h"), (2 * DAY_MS, "2 d"),
        (400 * DAY_MS, "400 d"),
    ],
)  # fmt: skip
def test_durations_in_the_largest_unit_that_says_enough(duration_ms: int, text: str) -> None:
    assert shown_duration(duration_ms) == text


def test_counts() -> None:
    assert [counted(count, "user") for count in (0, 1, 2)] == ["0 users", "1 user", "2 users"]
    assert counted(12_000, "entry", "entries") == "12,000 entries" and counted(1, "entry", "entries") == "1 entry"


def test_the_facts_of_a_rule() -> None:
    facts = {"whitelist_on": True, "listed": False, "banned_until": 0, "until_size": 3, "by": None, "reason": "spam"}
    assert shown_facts(facts) == [
        ("whitelist on", "yes"),
        ("listed", "no"),
        ("banned until", "1970-01-01 00:00:00Z"),
        ("until size", "3"),
        ("by", "none"),
        ("reason", "spam"),
    ]
