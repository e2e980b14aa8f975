"""Stream entries to Changes, and the errors for invalid entries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.core.changes import KINDS, Change, ChangeUnreadable, decode_change
from gate.core.codec import pack_members
from gate.core.model import FOREVER_MS

LEAST = {b"k": b"ban-lifted", b"t": b"1", b"w": b"00000000000000aa", b"p": b"", b"a": b"app"}


def test_a_change_with_every_field() -> None:
    fields = LEAST | {
        b"k": b"blocked",
        b"u": b"b\0b",
        b"e": str(FOREVER_MS).encode(),
        b"m": pack_members([b"a\r\n", b":"]),
        b"v": b"1",
    }
    assert decode_change(7, fields) == Change(
        7, "blocked", 1, "00000000000000aa", "", "app", b"b\0b", FOREVER_MS, (b"a\r\n", b":"), b"1"
    )


def test_fields_that_a_kind_does_not_use_are_empty() -> None:
    assert decode_change(1, LEAST)[6:] == (b"", 0, (), b"")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_read(kind: str) -> None:
    assert decode_change(1, LEAST | {b"k": kind.encode()}).kind == kind


@pytest.mark.parametrize("missing", [b"k", b"t", b"w", b"p", b"a"])
def test_a_missing_field_is_unreadable(missing: bytes) -> None:
    with pytest.raises(ChangeUnreadable, match="Change 9 is malformed"):
        decode_change(9, {name: value for name, value in LEAST.items() if name != missing})


@pytest.mark.parametrize(
    "wrong", [{b"k": b"invented"}, {b"k": b"\xff"}, {b"t": b"soon"}, {b"e": b""}, {b"m": b"\x05ab"}, {b"a": b"\xff"}]
)
def test_a_malformed_field_is_unreadable(wrong: dict[bytes, bytes]) -> None:
    with pytest.raises(ChangeUnreadable, match="Change 9"):
        decode_change(9, LEAST | wrong)


@given(st.dictionaries(st.sampled_from(list(b"ktwpauemv")).map(lambda letter: bytes((letter,))), st.binary()))
def test_any_bytes_are_a_change_or_unreadable(fields: dict[bytes, bytes]) -> None:
    try:
        change = decode_change(1, fields)
    except ChangeUnreadable:
        return
    assert change.kind in KINDS
