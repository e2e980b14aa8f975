"""Whether a Changelog goes on from a Position, and the text that says why not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gate.core.changes import Change, check_follows, check_heads
from gate.core.revision import NOWHERE, Position
from gate.errors import ChangelogBroken

AT = Position("e1", 4, "w4")


def change(seq: int, write_id: str, previous: str) -> Change:
    return Change(seq, "ban-lifted", 1, write_id, previous, "app", b"ann", 0, (), b"")


def test_changes_one_after_the_other_are_followed() -> None:
    assert check_follows(AT, []) == AT
    assert check_follows(AT, [change(5, "w5", "w4"), change(6, "w6", "w5")]) == Position("e1", 6, "w6")
    assert check_follows(NOWHERE, [change(1, "w1", "")]) == Position("", 1, "w1")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ([change(6, "w6", "w5")], "after seq 4 came 6"),
        ([change(5, "w5", "w4"), change(5, "w5", "w4")], "after seq 5 came 5"),
        ([change(5, "w5", "w4"), change(4, "w4", "w3")], "after seq 5 came 4"),
        ([change(5, "w5", "other")], "seq 5 follows another write than the one applied before it"),
        (
            [change(5, "w5", "w4"), change(6, "w6", "w4")],
            "seq 6 follows another write than the one applied before it",
        ),
    ],
)
def test_a_change_that_does_not_follow_breaks_the_log(changes: list[Change], text: str) -> None:
    with pytest.raises(ChangelogBroken) as broken:
        check_follows(AT, changes)
    word = "hole" if text.startswith("after") else "forked"
    assert (broken.value.reason, str(broken.value)) == (word, f"{word}: {text}")


def test_heads_at_or_after_what_is_applied_are_its_future() -> None:
    check_heads([], [])
    check_heads([AT, NOWHERE], [AT, NOWHERE])
    check_heads([AT, NOWHERE], [Position("e1", 5, "w5"), Position("", 1, "w1")])


@pytest.mark.parametrize(
    ("applied", "heads", "word", "text"),
    [
        ([AT], [], "partitions", "there are 0, the Replica was loaded from 1"),
        ([], [AT, AT], "partitions", "there are 2, the Replica was loaded from 0"),
        ([AT, AT], [AT, Position("e2", 4, "w4")], "epoch", "Partition 1 has e2, not e1"),
        ([AT], [NOWHERE], "epoch", "Partition 0 has none, not e1"),
        ([NOWHERE], [AT], "epoch", "Partition 0 has e1, not none"),
        ([AT, AT], [AT, Position("e1", 3, "w3")], "behind", "Partition 1 ends at 3, 4 is applied here"),
        ([AT], [Position("e1", 4, "x4")], "forked", "Partition 0 has another write at 4 than the one applied"),
    ],
)
def test_other_heads_break_the_log(
    applied: Sequence[Position], heads: Sequence[Position], word: str, text: str
) -> None:
    with pytest.raises(ChangelogBroken) as broken:
        check_heads(applied, heads)
    assert (broken.value.reason, str(broken.value)) == (word, f"{word}: {text}")
