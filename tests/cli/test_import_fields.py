"""What the fields of an imported line mean, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from gate.cli.import_fields import COLUMNS, KINDS, POSITIONAL, Imposition, Taker
from gate.core.model import FOREVER_MS, ListKind
from gate.errors import InvalidInput
from gate.store.operations import IMPORTED

NOW_MS = 1_700_000_000_000
BLACK, WHITE = ListKind.BLACKLIST, ListKind.WHITELIST


def taken(*lines: dict[str, Any], kind: str | None = None) -> Taker:
    taker = Taker(NOW_MS, kind)
    for number, fields in enumerate(lines, 1):
        taker.take(fields, number)
    return taker


def test_kinds_and_columns_are_those_of_the_table() -> None:
    assert list(KINDS) == list(IMPORTED)
    assert POSITIONAL == {
        "ban": ("user", "until", "reason", "actor"),
        "mute": ("user", "until", "reason", "actor"),
        "blacklist": ("owner", "member", "until"),
        "whitelist": ("owner", "member", "until"),
        "whitelist-switch": ("user", "on"),
        "user": ("user", "name", "portrait", "registered"),
    }
    assert {"kind", "seconds", "minutes", "permanent"}.union(*POSITIONAL.values()) == set(COLUMNS)


def test_each_kind() -> None:
    batch = taken(
        {"kind": "ban", "user": "a", "minutes": 1, "reason": "spam", "actor": "ann"},
        {"kind": "mute", "user": "b", "permanent": True},
        {"kind": "blacklist", "owner": "o", "member": "m"},
        {"kind": "blacklist", "owner": "o", "members": ["n", {"b64": "/wA="}], "seconds": 9},
        {"kind": "whitelist", "owner": "o", "member": "w", "until": NOW_MS + 1},
        {"kind": "whitelist-switch", "user": "o", "on": True},
        {"kind": "user", "user": "r"},
    ).batch
    assert batch.bans == {b"a": Imposition(NOW_MS + 60_000, "spam", "ann")}
    assert batch.mutes == {b"b": Imposition(FOREVER_MS, "", "")}
    assert batch.lists[BLACK, b"o"] == {b"m": FOREVER_MS, b"n": NOW_MS + 9_000, b"\xff\x00": NOW_MS + 9_000}
    assert batch.lists[WHITE, b"o"] == {b"w": NOW_MS + 1}
    assert batch.switches == {b"o": True}
    assert list(batch.registered) == [b"r"]
    assert batch.entries == 8


def test_cells_of_a_csv_are_text_and_mean_the_same() -> None:
    batch = taken(
        {"kind": "ban", "user": "a", "seconds": "60"},
        {"kind": "mute", "user": "b", "permanent": "yes"},
        {"kind": "whitelist-switch", "user": "o", "on": "0"},
        {"kind": "blacklist", "owner": "o", "member": "m", "until": "2030-01-31T18:00:00Z"},
    ).batch
    assert batch.bans[b"a"].until_ms == NOW_MS + 60_000
    assert batch.mutes[b"b"].until_ms == FOREVER_MS
    assert batch.switches == {b"o": False}
    assert batch.lists[BLACK, b"o"] == {b"m": 1_896_112_800_000}


def test_the_last_line_of_a_subject_wins_and_repeated_entries_count_once() -> None:
    batch = taken(
        {"kind": "blacklist", "owner": "o", "member": "m", "seconds": 5},
        {"kind": "blacklist", "owner": "o", "member": "m"},
        {"kind": "ban", "user": "a", "permanent": True},
        {"kind": "ban", "user": "a", "seconds": 5},
    ).batch
    assert batch.lists[BLACK, b"o"] == {b"m": FOREVER_MS}
    assert batch.bans[b"a"].until_ms == NOW_MS + 5_000
    assert batch.lines[BLACK, b"o"] == 1


def test_what_has_ended_is_counted_and_left_out() -> None:
    taker = taken(
        {"kind": "ban", "user": "a", "until": NOW_MS},
        {"kind": "blacklist", "owner": "o", "members": ["m", "n"], "until": 5},
    )
    assert taker.ended == 3
    assert taker.batch.entries == 0


def test_a_pair_takes_the_kind_of_the_call() -> None:
    taker = Taker(NOW_MS, "whitelist")
    taker.take_pair(("o", "m"), 7)
    taker.take_pair(("o", "m"), 8)
    assert taker.batch.lists == {(WHITE, b"o"): {b"m": FOREVER_MS}}
    assert (taker.batch.entries, taker.batch.lines) == (1, {(WHITE, b"o"): 7})


@pytest.mark.parametrize("pair", [("", "m"), ("o", ""), ("o" * 65, "m"), ("o", "é" * 33)])
def test_a_pair_with_a_bad_id_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput, match="must be 1 to 64 bytes"):
        Taker(NOW_MS, "blacklist").take_pair(pair, 1)


@pytest.mark.parametrize("kind", [None, "ban"])
def test_a_pair_of_no_list_is_refused(kind: str | None) -> None:
    with pytest.raises(InvalidInput):
        Taker(NOW_MS, kind).take_pair(("o", "m"), 1)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "kind: is missing"),
        ({"kind": "banned"}, "kind: is not known: 'banned'"),
        ({"kind": 7}, "kind: is not known"),
        ({"kind": ["ban"]}, "kind: is not known"),
        ({"kind": "ban", "user": "a"}, "say when it ends"),
        ({"kind": "ban", "user": "a", "untill": 5, "permanent": True}, "can't have: 'untill'"),
        ({"kind": "ban", "permanent": True}, "user: is missing"),
        ({"kind": "ban", "user": 7, "permanent": True}, "user: must be text"),
        ({"kind": "ban", "user": "", "permanent": True}, "1 to 64 bytes, 0 were given"),
        ({"kind": "ban", "user": "é" * 33, "permanent": True}, "66 were given"),
        ({"kind": "ban", "user": {"b64": "!"}, "permanent": True}, "no base64"),
        ({"kind": "ban", "user": {"b64": ""}, "permanent": True}, "0 were given"),
        ({"kind": "ban", "user": {"b64": "YQ==", "x": 1}, "permanent": True}, "must be text"),
        ({"kind": "ban", "user": "a", "minutes": 1.5}, "minutes: must be a whole number"),
        ({"kind": "ban", "user": "a", "minutes": True}, "minutes: must be a whole number"),
        ({"kind": "ban", "user": "a", "minutes": "9" * 17}, "minutes: must be a whole number"),
        ({"kind": "ban", "user": "a", "minutes": 10**15}, "hundred years"),
        ({"kind": "ban", "user": "a", "until": "tomorrow"}, "until: must be Unix milliseconds"),
        ({"kind": "ban", "user": "a", "until": [5]}, "until: must be Unix milliseconds"),
        ({"kind": "ban", "user": "a", "until": -5}, "until: must be Unix milliseconds"),
        ({"kind": "ban", "user": "a", "permanent": "maybe"}, "permanent: must be true or false"),
        ({"kind": "ban", "user": "a", "permanent": False}, "say when it ends"),
        ({"kind": "ban", "user": "a", "permanent": True, "reason": "x" * 513}, "at most 512"),
        ({"kind": "ban", "user": "a", "permanent": True, "actor": "\udcff"}, "not UTF-8"),
        ({"kind": "blacklist", "owner": "o"}, "member: is missing"),
        ({"kind": "blacklist", "owner": "o", "members": []}, "at least one"),
        ({"kind": "blacklist", "owner": "o", "members": "m"}, "must be a list"),
        ({"kind": "blacklist", "owner": "o", "members": ["m", ""]}, "members: must be 1 to 64"),
        ({"kind": "blacklist", "owner": "o", "member": "m", "members": ["n"]}, "not both"),
        ({"kind": "blacklist", "member": "m"}, "owner: is missing"),
        ({"kind": "whitelist-switch", "user": "o"}, "on: is missing"),
        ({"kind": "whitelist-switch", "user": "o", "on": "si"}, "on: must be true or false"),
        ({"kind": "user", "user": "u", "on": True}, "can't have: 'on'"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_taken(fields: dict[str, Any], problem: str) -> None:
    taker = Taker(NOW_MS)
    with pytest.raises(InvalidInput, match=problem):
        taker.take(fields, 1)
    assert taker.batch.entries == 0
    assert not (taker.batch.bans or taker.batch.lists or taker.batch.switches or taker.batch.registered)
