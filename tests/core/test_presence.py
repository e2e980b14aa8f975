"""Sessions, leases, cursors and feed entries: their text forms, and the bounds of what Gateways send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.core.presence import (
    BEGINNING,
    MAX_EPOCH,
    Counts,
    Cursor,
    Event,
    EventFilter,
    Lease,
    Sample,
    Session,
    UserPresence,
    cursor_of,
    event_of,
    following,
    full_session_id,
    lease_of,
    parse_address,
    parse_cursor,
    parse_epoch,
    parse_gateway,
    parse_platform,
    session_id,
    session_parts,
)
from gate.core.slices import MAX_SLICES
from gate.errors import InvalidInput

LAST = Cursor("e", 7, 0xAB)
SPREAD = Cursor("a1", 3, 0x10, (Cursor("b2", 0, 0x20), Cursor("c3", 5, 0x30)))


def test_a_session_id_holds_its_user() -> None:
    session = session_id(bytes(range(8)), b"ann")
    assert session == "AAECAwQFBgc.YW5u"
    assert session_parts(session) == ("AAECAwQFBgc", b"ann")
    assert full_session_id("AAECAwQFBgc", b"ann") == session
    assert session_parts(session_id(bytes(8), b"a"))[1] == b"a"
    longest = session_id(bytes(8), b"\xff" * 64)
    assert session_parts(longest)[1] == b"\xff" * 64


@pytest.mark.parametrize(
    "text",
    ["", "AAECAwQFBgc", "AAECAwQFBgc.", "AAECAwQFBgc.YW5", "AAECAwQFBg.YW5u", "AAECAwQFBgc.YW5u\n", "AAECAwQFBgc.Y W5u",
     session_id(bytes(8), b"x" * 65), "AAECAwQFBgc.YX=="],
)  # fmt: skip
def test_another_text_is_no_session_id(text: str) -> None:
    with pytest.raises(InvalidInput):
        session_parts(text)


VISIBLE = bytes(range(33, 127))
TAKEN: list[tuple[Callable[[bytes], Any], list[bytes], list[bytes]]] = [
    (parse_platform, [b"i", b"iOS", b"A.b_c-9", b"x" * 32], [b"", b"x" * 33, b"a b", b"a\n", "é".encode()]),
    (parse_gateway, [b"g", VISIBLE[:64], VISIBLE[-64:]], [b"", b"x" * 65, b"a b", b"a\x7f", b"\x00", b"\xff"]),
    (parse_address, [b"", b"::1", VISIBLE[:64], VISIBLE[-64:]], [b"x" * 65, b"a b", b"a\x7f", b"\xff"]),
]


@pytest.mark.parametrize(("parse", "fine", "refused"), TAKEN)
def test_what_a_gateway_may_name(parse: Callable[[bytes], Any], fine: list[bytes], refused: list[bytes]) -> None:
    for raw in fine:
        assert parse(raw) in (raw, raw.decode())
    for raw in refused:
        with pytest.raises(InvalidInput):
            parse(raw)


def test_an_epoch_is_a_whole_number_from_1() -> None:
    assert [parse_epoch(raw) for raw in (b"1", b"0000000000000001", b"%d" % (MAX_EPOCH - 1))] == [1, 1, MAX_EPOCH - 1]
    for raw in (b"", b"0", b"-1", b"+1", b"1.0", b" 1", b"%d" % MAX_EPOCH, b"00000000000000001", b"\xb2", b"9" * 5_000):
        with pytest.raises(InvalidInput):
            parse_epoch(raw)


places = st.builds(
    Cursor,
    st.integers(0, (1 << 64) - 1).map(lambda number: f"{number:x}"),
    st.integers(0, 10**16 - 1),
    st.integers(0, (1 << 64) - 1),
    st.just(()),
)


@given(st.lists(places, min_size=1, max_size=MAX_SLICES))
def test_a_cursor_comes_back_as_it_was(several: list[Cursor]) -> None:
    cursor = cursor_of(several)
    assert parse_cursor(str(cursor)) == cursor
    assert list(cursor.places) == several
    assert cursor.many == sum(place.seq for place in several)


def test_a_cursor_has_as_many_places_as_there_may_be_slices() -> None:
    assert len(parse_cursor(".".join(["a1-3-10"] * MAX_SLICES)).places) == MAX_SLICES


def test_a_cursor_reads_as_documented() -> None:
    assert str(SPREAD) == "a1-3-10.b2-0-20.c3-5-30"
    assert str(BEGINNING) == "0-0-0"
    assert cursor_of([LAST]) is LAST


@pytest.mark.parametrize(
    "text",
    ["", ".", "a1-3", "a1-3-10.", "A1-3-10", "a1-x-10", "a1-3-10 ", "a1-3-g", "a" * 17 + "-3-10", "a1-3-10.b2",
     ".".join(["a1-3-10"] * (MAX_SLICES + 1)), "a1-3-10," * 2],
)  # fmt: skip
def test_another_text_is_no_cursor(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_cursor(text)


def test_a_cursor_moves_in_one_slice() -> None:
    place = Cursor("d4", 9, 0x40)
    assert [str(SPREAD.at(at, place)) for at in range(3)] == [
        "d4-9-40.b2-0-20.c3-5-30",
        "a1-3-10.d4-9-40.c3-5-30",
        "a1-3-10.b2-0-20.d4-9-40",
    ]
    assert LAST.at(0, place) is place


def test_a_cursor_is_extended_over_slices_that_it_lacks() -> None:
    assert str(LAST.over(3)) == "e-7-ab.0-0-0.0-0-0"
    assert SPREAD.over(3) is SPREAD and SPREAD.over(2) is SPREAD and LAST.over(1) is LAST
    assert str(SPREAD.over(4)) == f"{SPREAD}.0-0-0"


def test_a_cursor_reaches_another_in_every_slice() -> None:
    assert SPREAD.reaches(SPREAD) and SPREAD.reaches(BEGINNING) and SPREAD.reaches(Cursor("a1", 3, 0))
    assert not LAST.reaches(SPREAD), "it has no place in slice 2, where the other one is at 5"
    assert Cursor("e", 7, 0, (Cursor("f", 1, 0),)).reaches(Cursor("e", 7, 0, (Cursor("f", 1, 0), Cursor("g", 0, 0))))
    for at in (0, 2):
        behind = SPREAD.at(at, SPREAD.places[at]._replace(seq=SPREAD.places[at].seq - 1))
        assert SPREAD.reaches(behind) and not behind.reaches(SPREAD)


def entry(text: bytes) -> Event:
    return event_of("e5", 12, [b"e", text])


def test_an_entry_of_the_feed_is_read() -> None:
    event = entry(b"online 1700000000123456 AAECAwQFBgc iOS edge-1 10.0.0.1 kicked 1600000000000 an n")
    place = Cursor("e5", 12, 1_700_000_000_123_456)
    wanted = (
        place,
        "online",
        b"an n",
        "AAECAwQFBgc.YW4gbg",
        "iOS",
        b"edge-1",
        "10.0.0.1",
        "kicked",
        1_600_000_000_000,
        0,
    )
    assert event == wanted
    assert event.place == place and event.at_ms == 1_700_000_000_123


def test_what_an_entry_lacks_is_empty_and_its_state_began_with_it() -> None:
    event = entry(b"offline 5999 AAECAwQFBgc iOS edge-1    ann")
    assert (event.ip, event.why, event.since_ms, event.user) == ("", "", 5, b"ann")
    assert entry(b"offline 1000000 AAECAwQFBgc iOS edge-1    ann").since_ms == 1_000
    assert entry(b"kick 5999 AAECAwQFBgc iOS edge-1 \xff  0 ann").ip == "�"


@pytest.mark.parametrize(
    "text", [b"", b"online 1 a b c d e 1", b"invented 1 a b c d e 1 ann", b"online x a b c d e 1 ann"]
)
def test_another_entry_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        entry(text)


def test_the_kind_that_is_unknown_is_named() -> None:
    with pytest.raises(ValueError, match=r"\Aentry 12 has an unknown kind, 'k{40}'\Z"):
        entry(b"k" * 50 + b" 1 a b c d e 1 ann")


def test_events_of_several_slices_get_cursors_over_all() -> None:
    first = entry(b"online 16 AAECAwQFBgc iOS g    a")
    events = [
        first._replace(slice_=2),
        first._replace(slice_=0, cursor=Cursor("a1", 4, 0x40)),
        first._replace(slice_=2, cursor=Cursor("e5", 13, 0x11)),
    ]
    found = following(SPREAD, events)
    assert [str(event.cursor) for event in found] == [
        "a1-3-10.b2-0-20.e5-12-10",
        "a1-4-40.b2-0-20.e5-12-10",
        "a1-4-40.b2-0-20.e5-13-11",
    ]
    assert [str(event.place) for event in found] == ["e5-12-10", "a1-4-40", "e5-13-11"]
    assert [event.user for event in found] == [b"a"] * 3
    assert following(SPREAD, []) == []


def test_a_lease_is_read() -> None:
    assert lease_of(b"g", b"7:3:1700:1") == Lease(b"g", 7, 3, 1_700, True)
    assert lease_of(b"g", b"7:3:1700:0") == Lease(b"g", 7, 3, 1_700, False)


def test_counts_are_summed_with_the_highest_first() -> None:
    counts = Counts(users=3, sweeping=0, sessions={(b"g1", "iOS"): 1, (b"g2", "iOS"): 2, (b"g2", "Web"): 4})
    assert counts.total == 7
    assert list(counts.by_platform().items()) == [("Web", 4), ("iOS", 3)]
    assert list(counts.by_gateway().items()) == [(b"g2", 6), (b"g1", 1)]
    assert counts.document() == {
        "users": 3,
        "sessions": 7,
        "by_platform": {"Web": 4, "iOS": 3},
        "by_gateway": {"g2": 6, "g1": 1},
    }
    assert Sample(users=0, sessions={}, at_ms=1).total == 0


def test_a_user_is_online_with_a_session() -> None:
    session = Session("s", b"ann", "iOS", b"g", 1, 2, "", 3, 0)
    assert UserPresence((session,), 0, 0).online and not UserPresence((), 5, 6).online


@pytest.mark.parametrize(
    ("users", "gateway", "got"),
    [
        ((), None, [b"ann", b"bob"]),
        ((b"ann",), None, [b"ann"]),
        ((b"ann", b"bob"), None, [b"ann", b"bob"]),
        ((b"carol",), None, []),
        ((), b"g1", [b"ann"]),
        ((b"bob",), b"g1", []),
        ((b"ann", b"carol"), b"g1", [b"ann"]),
    ],
)
def test_a_reader_gets_the_events_that_match_all_it_asked_for(
    users: tuple[bytes, ...], gateway: bytes | None, got: list[bytes]
) -> None:
    of_ann, of_bob = (
        Event(LAST, "online", user, "s", "ios", served_by, "", "", 0)
        for user, served_by in ((b"ann", b"g1"), (b"bob", b"g2"))
    )
    chosen = EventFilter(frozenset(["online"]), frozenset(users), gateway)
    assert [event.user for event in (of_ann, of_bob) if chosen.has(event)] == got
    assert not any(EventFilter(frozenset(["kicked"]), *chosen[1:]).has(event) for event in (of_ann, of_bob))
