"""Ids of the Replica by a part of them: slices join to every match once, and no other App's ids are seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.replica.id_search import ids_beginning_with, ids_holding
from gate.replica.reader import app_of
from gate.replica.reading import Reading
from tests.replica.ledger import Ledger, app_facts, said

IDS = [
    b"%s%d" % (word, number) for word in (b"ann", b"Ann", b"xann", b"bob", b"U", b"\x00\x01") for number in range(40)
]


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    ledger = Ledger(tmp_path, 1, app_facts("app"), app_facts("other"))
    ledger.commit(*(said("user-registered", user, value=b"1") for user in [*IDS, b"ann"]))
    ledger.commit(*(said("ban-imposed", user, app="other") for user in (b"ann-other", b"zann")))
    opened = Reading(tmp_path)
    yield opened
    opened.close()
    ledger.close()


def beginning(reading: Reading, part: bytes, wanted: int) -> list[bytes]:
    found: list[bytes] = []
    behind: bytes | None = b""
    while behind is not None:
        with reading:
            step = ids_beginning_with(reading, app_of(reading, "app"), part, behind, wanted)
        found += step.ids
        behind = step.behind
    return found


def holding(
    reading: Reading, part: bytes, wanted: int, slice_ms: float = 0, app: str = "app"
) -> tuple[list[bytes], int]:
    found: list[bytes] = []
    behind: bytes | None = b""
    looked_at = 0
    while behind is not None:
        assert looked_at < 10 * len(IDS), "the search does not end"
        with reading:
            step = ids_holding(reading, app_of(reading, app), part, behind, wanted, slice_ms)
        found += step.ids
        looked_at += step.looked_at
        behind = step.behind
    return found, looked_at


@pytest.mark.parametrize("wanted", [1, 7, 1_000])
def test_the_exact_id_comes_first_and_then_those_behind_it(reading: Reading, wanted: int) -> None:
    found = beginning(reading, b"ann", wanted)
    assert found == [b"ann", *sorted(one for one in IDS if one.startswith(b"ann"))]
    assert beginning(reading, b"nothing", wanted) == []
    assert beginning(reading, b"z", wanted) == []


@pytest.mark.parametrize("wanted", [1, 7, 1_000])
def test_other_ids_that_hold_the_part_whatever_its_case(reading: Reading, wanted: int) -> None:
    found, _ = holding(reading, b"aNN", wanted)
    assert found == sorted([b"ann", *(one for one in IDS if b"ann" in one.lower())])
    assert holding(reading, b"ann", wanted)[0] == sorted(one for one in IDS if one[:1] in b"Ax")
    assert holding(reading, b"\x00\x01", wanted)[0] == []  # it is the key's own prefix that holds it
    assert holding(reading, b"u", wanted)[0] == sorted(one for one in IDS if one.startswith(b"U"))


def test_each_id_is_looked_at_once_in_slices(reading: Reading) -> None:
    found, looked_at = holding(reading, b"nothing", 5)
    assert (found, looked_at) == ([], len(IDS) + 1)


def test_a_search_ends_with_the_last_key_of_the_file(reading: Reading) -> None:
    assert holding(reading, b"nn", 5, app="other") == ([b"ann-other", b"zann"], 2)
