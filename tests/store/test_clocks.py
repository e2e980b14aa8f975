"""Moments that are over by the clocks of all nodes: never one that a clock has not reached, however the clocks step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.clock import wall_ms
from gate.store.clocks import MARGIN_MS, MOST_APART_MS, ClockLook, Clocks, look_at_clocks
from gate.store.registry import ListedNode, Registry
from gate.store.store import Store

START_MS = 1_000_000_000
LEASE_MS = 3_000
BEAT_EVERY_MS = 700
LOOK_EVERY_MS = 1_000
HOUR_MS = 3_600_000


def look(at_ms: int, own_ms: int = 0, *, beat: int | None = None, settled: bool = True, **nodes: int) -> ClockLook:
    """A reading of correct clocks with these offsets; `at_ms` counts from the start."""
    listed = [
        ListedNode(node, "run", at_ms // BEAT_EVERY_MS if beat is None else beat, LEASE_MS, offset_ms, b"")
        for node, offset_ms in nodes.items()
    ]
    return ClockLook(at_ms, START_MS + at_ms, own_ms, Registry("s", "i", settled, tuple(listed)))


def over_of(*looks: ClockLook) -> int | None:
    clocks = Clocks(margin_ms=0)
    for one in looks:
        clocks.note(one)
    return clocks.over_ms


def test_the_clock_that_is_furthest_behind_decides() -> None:
    assert over_of(look(0, n1=0, n2=0), look(LEASE_MS, n1=0, n2=0)) == START_MS
    assert over_of(look(0, n1=-7_000, n2=0), look(LEASE_MS, n1=-7_000, n2=600_000)) == START_MS - 7_000
    assert over_of(look(0, -2_000), look(LEASE_MS, -2_000)) == START_MS - 2_000
    assert over_of(look(0, 4_000, n1=600_000), look(LEASE_MS, 4_000, n1=600_000)) == START_MS


def test_there_is_a_margin_unless_it_is_played() -> None:
    clocks = Clocks()
    clocks.note(look(0))
    clocks.note(look(LEASE_MS))
    assert clocks.over_ms == START_MS - MARGIN_MS


@pytest.mark.parametrize(
    "looks",
    [
        [look(0)],
        [look(0), look(LEASE_MS - 1)],
        [look(0), look(LEASE_MS, MOST_APART_MS + 1)],
        [look(0, -MOST_APART_MS - 1), look(LEASE_MS)],
        [look(0, n1=0), look(1_000, 2 * HOUR_MS, n1=0), look(LEASE_MS, n1=0)],
        [look(0, settled=False), look(LEASE_MS)],
        [look(0), look(LEASE_MS, settled=False)],
        [look(0, beat=7, n1=0), look(LEASE_MS, beat=7, n1=0)],
    ],
    ids=["one look", "too soon", "own clock ahead", "own clock behind", "server stepped and came back",
         "a list that may lack nodes", "a list that was lost", "a node that hangs"],
)  # fmt: skip
def test_nothing_is_over_where_it_is_not_known(looks: list[ClockLook]) -> None:
    assert over_of(*looks) is None


def test_looks_that_are_no_longer_needed_are_dropped() -> None:
    clocks = Clocks(margin_ms=0)
    for at_ms in range(0, 60_000, LOOK_EVERY_MS):
        clocks.note(look(at_ms, n1=0))
        assert clocks.over_ms in (None, START_MS + at_ms - LEASE_MS)
    assert len(clocks.looks) <= 2 + LEASE_MS // LOOK_EVERY_MS


STEPS = st.lists(
    st.tuples(
        st.integers(0, 20_000).map(lambda at: at // 100 * 100),
        st.sets(st.sampled_from(["server", "own", "n1", "n2"]), min_size=1),
        st.sampled_from([-2 * HOUR_MS, -7_000, -900, 900, 7_000, 600_000, 2 * HOUR_MS]),
    ),
    max_size=2,
)


@given(steps=STEPS, beat_phase_ms=st.integers(0, BEAT_EVERY_MS - 1), look_phase_ms=st.integers(0, LOOK_EVERY_MS - 1))
def test_no_clock_is_asked_to_be_where_it_never_was(
    steps: list[tuple[int, set[str], int]], beat_phase_ms: int, look_phase_ms: int
) -> None:
    offsets = dict.fromkeys(["server", "own", "n1", "n2"], 0)
    reached = dict.fromkeys(offsets, 0)
    listed: dict[str, ListedNode] = {}
    clocks = Clocks(margin_ms=0)
    for now_ms in range(0, 26_000, 50):
        for at_ms, which, by_ms in steps:
            if at_ms == now_ms:
                for name in which:
                    offsets[name] += by_ms
        for name, offset_ms in offsets.items():
            reached[name] = max(reached[name], START_MS + now_ms + offset_ms)
        for name, phase_ms in (("n1", beat_phase_ms), ("n2", beat_phase_ms // 2)):
            if (now_ms - phase_ms // 50 * 50) % BEAT_EVERY_MS == 0:
                apart_ms = offsets[name] - offsets["server"]
                listed[name] = ListedNode(name, "run", now_ms, LEASE_MS, apart_ms, b"")
        if (now_ms - look_phase_ms // 50 * 50) % LOOK_EVERY_MS == 0:
            server_ms = START_MS + now_ms + offsets["server"]
            registry = Registry("s", "i", True, tuple(listed.values()))
            clocks.note(ClockLook(now_ms, server_ms, offsets["own"] - offsets["server"], registry))
            over_ms = clocks.over_ms
            assert over_ms is None or over_ms <= min(reached.values())


@pytest.mark.parametrize("ahead_ms", [0, 600_000, -7_000])
async def test_a_look_at_a_real_server_finds_how_far_the_clocks_are_apart(valkey_store: Store, ahead_ms: int) -> None:
    await valkey_store.announcer("n1").renew({})
    found = await look_at_clocks(valkey_store.client, lambda: wall_ms() + ahead_ms)
    assert abs(found.own_offset_ms - ahead_ms) < 500
    assert list(found.offsets_ms) == ["n1"] and abs(found.offsets_ms["n1"]) < 500
    assert abs(found.spread_ms - abs(ahead_ms)) < 1_000
