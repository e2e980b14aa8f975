"""Stream entries to Changes, and the errors for invalid entries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.core.changes import (
    KINDS,
    MAX_SLICE_WEIGHT,
    Change,
    ChangeUnreadable,
    decode_change,
    decode_entry,
    left_by_erasure,
    slices,
)
from gate.core.codec import pack_members
from gate.core.model import FOREVER_MS, NO_FACTS, UserFacts

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


def flat(fields: dict[bytes, bytes]) -> list[bytes]:
    return [part for pair in fields.items() for part in pair]


WHOLE = LEAST | {
    b"k": b"blocked",
    b"p": b"00000000000000a9",
    b"u": b"b\0b",
    b"e": b"9",
    b"m": pack_members([b"c", b"d"]),
    b"v": b"1",
}
ENTRIES = [
    LEAST,
    WHOLE,
    *({name: value for name, value in WHOLE.items() if name != missing} for missing in (b"u", b"e", b"m", b"v")),
    LEAST | {b"z": b"of a later version", b"v": b"2"},
    LEAST | {b"u": b"e", b"v": b"u"},
    LEAST | {b"u": b"v", b"e": b"9"},
    dict(reversed(WHOLE.items())),
]  # fmt: skip


@pytest.mark.parametrize("fields", ENTRIES)
def test_a_flat_entry_is_the_same_change(fields: dict[bytes, bytes]) -> None:
    assert decode_entry(7, flat(fields)) == decode_change(7, fields)


def test_a_flat_entry_in_the_usual_order_takes_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gate.core.changes.decode_change", None)
    for fields in ENTRIES[:-1]:
        assert decode_entry(7, flat(fields)).seq == 7


@pytest.mark.parametrize("at", range(len(flat(WHOLE)) + 1))
def test_a_flat_entry_that_is_cut_short_is_never_half_read(at: int) -> None:
    cut = flat(WHOLE)[:at]
    try:
        change = decode_entry(9, cut)
    except ChangeUnreadable as fault:
        assert str(fault).startswith("Change 9 is malformed: ")
        return
    assert at >= 10 and change == decode_change(9, dict(zip(cut[::2], cut[1::2], strict=False)))


@pytest.mark.parametrize(
    "wrong", [{b"k": b"invented"}, {b"t": b"soon"}, {b"e": b""}, {b"m": b"\x05ab"}, {b"a": b"\xff"}]
)
def test_a_malformed_flat_entry_has_the_text_of_any_other(wrong: dict[bytes, bytes]) -> None:
    with pytest.raises(ChangeUnreadable) as plain:
        decode_change(9, WHOLE | wrong)
    with pytest.raises(ChangeUnreadable) as fast:
        decode_entry(9, flat(WHOLE | wrong))
    assert str(fast.value) == str(plain.value)


def test_a_kind_that_is_unknown_is_named() -> None:
    with pytest.raises(ChangeUnreadable, match=r"\AChange 9 has an unknown kind, 'k{40}'\Z"):
        decode_change(9, LEAST | {b"k": b"k" * 50})


def test_what_an_erasure_leaves() -> None:
    assert left_by_erasure(b"") == NO_FACTS
    assert left_by_erasure(b"d") == UserFacts(deactivated=True)
    assert left_by_erasure(b"dr") == UserFacts(deactivated=True, registered=True)


def weighing(seq: int, weight: int) -> Change:
    return Change(seq, "blocked", 1, "", "", "app", b"u", FOREVER_MS, (b"m",) * (weight - 1), b"")


def test_a_portion_ends_with_the_change_that_makes_it_heavy_enough() -> None:
    light, heavy = [weighing(seq, 1) for seq in range(3)], weighing(9, MAX_SLICE_WEIGHT - 1)
    assert list(slices({3: [heavy, light[0], heavy, light[1], light[2]]})) == [
        {3: [heavy, light[0]]},
        {3: [heavy, light[1]]},
        {3: [light[2]]},
    ]


def test_the_partition_of_the_apps_is_in_the_first_portion() -> None:
    app, user = weighing(1, 1), weighing(1, MAX_SLICE_WEIGHT)
    portions = list(slices({2: [user], 0: [app], 1: [app, user]}))
    assert portions == [{0: [app], 1: [app, user]}, {2: [user]}]
    assert list(portions[0]) == [0, 1]
    assert list(slices({})) == list(slices({0: []})) == []
