"""The line over the last hour: a character a minute, gaps shown as gaps, and platforms without Users now."""

from __future__ import annotations

import pytest

from gate.cli.online import MINUTES, print_history, sparkline
from gate.core.presence import Sample

NOW_MS = 1_800_000_000_000
MINUTE_MS = 60_000


def ago(minutes: float, value: int) -> tuple[int, int]:
    return int(NOW_MS - minutes * MINUTE_MS), value


@pytest.mark.parametrize(
    ("values", "end"),
    [
        ([], "···"),
        ([ago(0, 0)], "··▁"),
        ([ago(0, 7)], "··█"),
        ([ago(2, 1), ago(1, 100), ago(0, 50)], "▂█▅"),
        ([ago(2, 8), ago(0, 8)], "█·█"),
        ([ago(1.9, 1), ago(1.5, 8), ago(1.1, 2), ago(0, 4)], "·█▅"),
        ([ago(-0.2, 5)], "··█"),
    ],
)
def test_a_minute_is_its_highest_value_against_the_highest_of_all(values: list[tuple[int, int]], end: str) -> None:
    line = sparkline(values, NOW_MS)
    assert (len(line), line[-3:]) == (MINUTES, end)


def test_what_is_older_than_an_hour_is_left_off() -> None:
    assert sparkline([ago(60, 1_000), ago(59.9, 1)], NOW_MS) == "█" + "·" * 59


def test_platforms_come_by_what_they_are_now_and_those_that_were_last(capsys: pytest.CaptureFixture[str]) -> None:
    samples = [
        Sample(9, {(b"a", "Old"): 9, (b"a", "iOS"): 1}, NOW_MS - MINUTE_MS),
        Sample(3, {(b"a", "iOS"): 1, (b"b", "Web"): 2, (b"", ""): 1}, NOW_MS),
    ]
    print_history(samples, NOW_MS, as_json=False)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "█" in line]
    assert [(row[0], *row[2:]) for row in rows] == [
        ("Users", "3", "9", "3"),
        ("Sessions", "4", "10", "4"),
        ("Web", "0", "2", "2"),
        ("iOS", "1", "1", "1"),
        ("(others)", "0", "1", "1"),
        ("Old", "0", "9", "0"),
    ]


def test_nothing_yet(capsys: pytest.CaptureFixture[str]) -> None:
    print_history([], NOW_MS, as_json=False)
    assert capsys.readouterr().out == "no sample was taken in the last hour\n"
