"""Revisions as text: what answers carry and what a check may demand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.core.revision import MAX_REVISIONS, Revision, parse_revisions
from gate.errors import InvalidInput

EPOCH = "1f00c3a95be2d844"
revisions = st.builds(
    Revision,
    st.integers(0, 1023),
    st.integers(0, (1 << 64) - 1).map(lambda number: f"{number:016x}"),
    st.integers(0, (1 << 53) - 1),
)


@given(st.dictionaries(st.integers(0, 1023), revisions, min_size=1, max_size=MAX_REVISIONS))
def test_revisions_come_back_as_they_were(by_partition: dict[int, Revision]) -> None:
    whole = [revision._replace(partition=partition) for partition, revision in sorted(by_partition.items())]
    assert list(parse_revisions(",".join(map(str, whole)))) == whole


def test_one_revision_reads_as_documented() -> None:
    assert str(Revision(7, EPOCH, 1042)) == f"7:{EPOCH}:1042"
    assert parse_revisions(f"7:{EPOCH}:1042") == (Revision(7, EPOCH, 1042),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "7",
        f"7:{EPOCH}",
        f"7:{EPOCH}:",
        f"7:{EPOCH}:x",
        f"7:{EPOCH}:-1",
        f"-7:{EPOCH}:1",
        f"7:{EPOCH.upper()}:1",
        f"7:{EPOCH[1:]}:1",
        f"7:{EPOCH}:1,",
        f"7:{EPOCH}:1 ",
        f"7:{EPOCH}:1\n",
        f"123456:{EPOCH}:1",
        f"7:{EPOCH}:12345678901234567",
        ",".join([f"7:{EPOCH}:1"] * (MAX_REVISIONS + 1)),
    ],
)
def test_anything_else_is_refused_and_says_what_a_revision_is(text: str) -> None:
    with pytest.raises(InvalidInput, match="partition:epoch:seq"):
        parse_revisions(text)


def test_as_many_as_a_write_may_answer_are_read() -> None:
    text = ",".join(f"{partition}:{EPOCH}:1" for partition in range(MAX_REVISIONS))
    assert len(parse_revisions(text)) == MAX_REVISIONS
