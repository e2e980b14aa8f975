from __future__ import annotations

import asyncio
import time

import pytest

from gate.core.model import FOREVER_MS, ListKind
from gate.errors import InvalidInput, ListFull
from gate.store.lists import MAX_LOOKED_AT, Entry, Group
from gate.store.store import Store
from gate.store.writer import MAX_IDS_A_CALL
from tests.store.conftest import APP
from tests.store.following import Follower, snapshot_facts
from tests.store.odd_ids import ODD_IDS

NOW = 1_000
BLACK, WHITE = ListKind.BLACKLIST, ListKind.WHITELIST
WORDS = {BLACK: ("blocked", "unblocked"), WHITE: ("admitted", "unadmitted")}
EVERY_KIND = pytest.mark.parametrize("kind", list(ListKind))


def ids(count: int, prefix: str = "m") -> list[bytes]:
    return [b"%s%d" % (prefix.encode(), number) for number in range(count)]


async def add_ended(store: Store, count: int) -> None:
    """Entries of the owner `o` that end at 2,000."""
    for first in range(0, count, 10_000):
        some = [b"m%d" % number for number in range(first, min(first + 10_000, count))]
        await store.lists.add(APP, BLACK, b"o", some, 2_000, NOW, None)


async def members(store: Store, kind: ListKind, owner: bytes, now_ms: int = NOW) -> list[bytes]:
    """All entries of the list, newest first, page by page."""
    found: list[bytes] = []
    before: int | None = None
    while True:
        entries, before = await store.lists.page(APP, kind, owner, now_ms, before, 7)
        found += [entry.member for entry in entries]
        if before is None:
            return found


@EVERY_KIND
async def test_adding_and_removing_say_so(store: Store, follower: Follower, kind: ListKind) -> None:
    written = await store.lists.add(APP, kind, b"o", [b"a", b"b"], FOREVER_MS, NOW, 10)
    change = await follower.read_one()
    assert (change.kind, change.user, change.members) == (WORDS[kind][0], b"o", (b"a", b"b"))
    assert (change.until_ms, change.at_ms, change.app) == (FOREVER_MS, NOW, APP)
    assert follower.stands_at(written.revisions)
    assert await members(store, kind, b"o") == [b"b", b"a"]
    assert await members(store, ListKind(1 - kind), b"o") == []

    written = await store.lists.remove(APP, kind, b"o", [b"a", b"gone"], NOW)
    change = await follower.read_one()
    assert (change.kind, change.user, change.members) == (WORDS[kind][1], b"o", (b"a", b"gone"))
    assert follower.stands_at(written.revisions)
    assert await members(store, kind, b"o") == [b"b"]


async def test_the_last_entry_leaves_no_key(store: Store, follower: Follower) -> None:
    await store.lists.add(APP, BLACK, b"o", [b"a"], 5_000, NOW, 10)
    for _ in range(2):
        await store.lists.remove(APP, BLACK, b"o", [b"a"], NOW)
    await follower.read_new()
    assert follower.facts.lists == (await snapshot_facts(store.changelog)).lists == {}
    (keys,) = await store.client.read(("KEYS", "gate:*:black*"))
    assert keys == []


async def test_a_repeat_keeps_the_place_and_takes_the_new_end(store: Store, follower: Follower) -> None:
    await store.lists.add(APP, BLACK, b"o", [b"a", b"b"], FOREVER_MS, NOW, 10)
    for until_ms in (5_000, 4_000, FOREVER_MS):
        await store.lists.add(APP, BLACK, b"o", [b"a"], until_ms, NOW, 10)
        entries, following = await store.lists.page(APP, BLACK, b"o", NOW, None, 10)
        assert (entries, following) == ([Entry(b"b", FOREVER_MS), Entry(b"a", until_ms)], None)
    await follower.read_new()
    assert follower.facts.lists == (await snapshot_facts(store.changelog)).lists


async def test_an_entry_ends_at_its_very_millisecond(store: Store) -> None:
    await store.lists.add(APP, WHITE, b"o", [b"timed"], 5_000, NOW, 10)
    await store.lists.add(APP, WHITE, b"o", [b"ever"], FOREVER_MS, NOW, 10)
    assert await members(store, WHITE, b"o", 4_999) == [b"ever", b"timed"]
    assert await members(store, WHITE, b"o", 5_000) == [b"ever"]
    asked = [b"timed", b"ever", b"never"]
    assert await store.lists.contains(APP, WHITE, b"o", asked, 4_999) == [True, True, False]
    assert await store.lists.contains(APP, WHITE, b"o", asked, 5_000) == [False, True, False]
    assert await store.lists.contains(APP, WHITE, b"o", [], 5_000) == []


async def test_ended_entries_make_room_and_stay_for_the_sweep(store: Store, follower: Follower) -> None:
    await store.lists.add(APP, BLACK, b"o", [b"old1", b"old2"], 5_000, NOW, 3)
    await store.lists.add(APP, BLACK, b"o", [b"kept"], 6_000, NOW, 3)
    await follower.read_new()
    with pytest.raises(ListFull):
        await store.lists.add(APP, BLACK, b"o", [b"new1"], FOREVER_MS, 4_999, 3)
    await store.lists.add(APP, BLACK, b"o", [b"new1", b"old1"], FOREVER_MS, 5_000, 3)
    added = await follower.read_one()
    assert (added.kind, added.members) == ("blocked", (b"new1", b"old1"))
    assert await members(store, BLACK, b"o", 5_000) == [b"old1", b"new1", b"kept"]
    assert (await snapshot_facts(store.changelog)).lists == follower.facts.lists


async def test_past_the_ceiling_nothing_is_added(store: Store, follower: Follower) -> None:
    await store.lists.add(APP, BLACK, b"o", ids(3), FOREVER_MS, NOW, 5)
    await follower.read_new()
    with pytest.raises(ListFull, match="holds 3 entries and 3 more would exceed its ceiling of 5"):
        await store.lists.add(APP, BLACK, b"o", [b"x", b"y", b"z", b"m0", b"x"], FOREVER_MS, NOW, 5)
    assert await follower.read_new() == []
    assert await members(store, BLACK, b"o") == [b"m2", b"m1", b"m0"]
    # Present entries don't count; the ceiling itself may be reached.
    await store.lists.add(APP, BLACK, b"o", [b"x", b"m0", b"y", b"m1"], FOREVER_MS, NOW, 5)
    assert len(await members(store, BLACK, b"o")) == 5
    # After the ceiling was lowered, present entries can still get another end.
    await store.lists.add(APP, BLACK, b"o", [b"m0"], 9_000, NOW, 2)
    assert await store.lists.contains(APP, BLACK, b"o", [b"m0"], 9_000) == [False]


async def test_no_ceiling_is_no_limit(valkey_store: Store) -> None:
    await valkey_store.lists.add(APP, BLACK, b"o", ids(5_000), FOREVER_MS, NOW, None)
    assert (await valkey_store.users.facts(APP, [b"o"]))[0].blacklist_size == 5_000


async def test_fifty_parallel_adders_never_pass_the_ceiling(store: Store, follower: Follower) -> None:
    adding = [
        store.lists.add(APP, BLACK, b"o", [b"m%d-%d" % (adder, n) for n in range(3)], FOREVER_MS, NOW, 40)
        for adder in range(50)
    ]
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert sum(isinstance(outcome, ListFull) for outcome in outcomes) == 50 - 13
    assert len(await members(store, BLACK, b"o")) == 39
    await follower.read_new()
    assert follower.facts.lists == (await snapshot_facts(store.changelog)).lists


async def test_long_additions_become_changes_of_at_most_a_hundred(store: Store, follower: Follower) -> None:
    await store.lists.add(APP, BLACK, b"o", ids(250), FOREVER_MS, NOW, None)
    changes = await follower.read_new()
    assert [len(change.members) for change in changes] == [100, 100, 50]
    assert [member for change in changes for member in change.members] == ids(250)
    assert len({change.write_id for change in changes}) == 3
    assert await members(store, BLACK, b"o") == ids(250)[::-1]
    await store.lists.remove(APP, BLACK, b"o", ids(250), NOW)
    assert [len(change.members) for change in await follower.read_new()] == [100, 100, 50]
    assert await members(store, BLACK, b"o") == []


async def test_any_id_owns_and_is_listed(store: Store, follower: Follower) -> None:
    groups = [Group(owner, ODD_IDS, 5_000 if number % 2 else FOREVER_MS) for number, owner in enumerate(ODD_IDS)]
    await store.lists.add_many(APP, WHITE, groups, NOW, 100)
    await follower.read_new()
    for owner in ODD_IDS:
        assert await members(store, WHITE, owner) == ODD_IDS[::-1]
    expected = {(APP, WHITE, group.owner): dict.fromkeys(ODD_IDS, group.until_ms) for group in groups}
    assert follower.facts.lists == (await snapshot_facts(store.changelog)).lists == expected


async def test_of_many_owners_only_the_full_one_is_refused(store: Store, follower: Follower) -> None:
    owners = ids(40, "o")
    await store.lists.add(APP, BLACK, owners[3], ids(5), FOREVER_MS, NOW, 5)
    with pytest.raises(ListFull):
        await store.lists.add_many(APP, BLACK, [Group(owner, [b"x"]) for owner in owners], NOW, 5)
    sizes = [len(await members(store, BLACK, owner)) for owner in owners]
    assert sizes == [5 if owner == owners[3] else 1 for owner in owners]
    assert await store.lists.contains(APP, BLACK, owners[3], [b"x"], NOW) == [False]


async def test_one_owner_twice_in_a_call_is_measured_once(store: Store, follower: Follower) -> None:
    await store.lists.add(APP, BLACK, b"o", [b"ended"], 2_000, NOW, 10)
    groups = [Group(b"o", [b"a", b"ended"], 9_000), Group(b"o", [b"a", b"b"])]
    with pytest.raises(ListFull):
        await store.lists.add_many(APP, BLACK, groups, 3_000, 2)
    await store.lists.add_many(APP, BLACK, groups, 3_000, 3)
    entries, _ = await store.lists.page(APP, BLACK, b"o", 3_000, None, 10)
    assert sorted(entries) == [(b"a", FOREVER_MS), (b"b", FOREVER_MS), (b"ended", 9_000)]
    await follower.read_new()
    assert follower.facts.lists == (await snapshot_facts(store.changelog)).lists


async def test_pages_pass_over_ended_entries_without_gaps(store: Store) -> None:
    for number, member in enumerate(ids(100)):
        await store.lists.add(APP, BLACK, b"o", [member], 2_000 if 20 < number < 90 else FOREVER_MS, NOW, None)
    living = [member for number, member in enumerate(ids(100)) if not 20 < number < 90][::-1]
    assert await members(store, BLACK, b"o", 2_000) == living
    entries, following = await store.lists.page(APP, BLACK, b"o", 2_000, None, len(living))
    assert (len(entries), following) == (len(living), None), "no empty page follows a full last one"


@pytest.mark.parametrize("size", [1, 3, 4, 8, 9, 10])
async def test_a_list_without_ends_has_the_pages_of_one_with(store: Store, size: int) -> None:
    await store.lists.add(APP, BLACK, b"endless", ids(8), FOREVER_MS, NOW, None)
    await store.lists.add(APP, BLACK, b"ending", ids(8), 9_000, NOW, None)
    for owner, until_ms in ((b"endless", FOREVER_MS), (b"ending", 9_000)):
        found: list[list[tuple[bytes, int]]] = []
        before: int | None = None
        while not found or before is not None:
            entries, before = await store.lists.page(APP, BLACK, owner, 2_000, before, size)
            found.append([(entry.member, entry.until_ms) for entry in entries])
        expected = [(member, until_ms) for member in ids(8)[::-1]]
        assert found == [expected[at : at + size] for at in range(0, 8, size)]


@pytest.mark.parametrize("living", [0, 3])
async def test_a_page_behind_many_ended_entries_is_found(valkey_store: Store, living: int) -> None:
    store = valkey_store
    await store.lists.add(APP, BLACK, b"o", ids(living, "old"), FOREVER_MS, NOW, None)
    await add_ended(store, 3 * MAX_LOOKED_AT)
    await store.lists.add(APP, BLACK, b"o", ids(2, "new"), FOREVER_MS, NOW, None)
    entries, following = await store.lists.page(APP, BLACK, b"o", 2_000, None, 10)
    assert [entry.member for entry in entries] == [*ids(2, "new")[::-1], *ids(living, "old")[::-1]]
    assert following is None
    entries, following = await store.lists.page(APP, BLACK, b"o", 2_000, None, 2)
    assert [entry.member for entry in entries] == ids(2, "new")[::-1]
    rest, _ = await store.lists.page(APP, BLACK, b"o", 2_000, following, 10)
    assert [entry.member for entry in rest] == ids(living, "old")[::-1]


async def test_adding_costs_the_same_however_many_entries_have_ended(valkey_store: Store) -> None:
    store = valkey_store
    await add_ended(store, 160_000)
    took_s = 0.0
    for call in range(20):
        began = time.perf_counter()
        await store.lists.add(APP, BLACK, b"o", [b"new%d" % call, b"m%d" % call], FOREVER_MS, 2_000, 50)
        took_s += time.perf_counter() - began
    assert took_s / 20 < 0.02, "one call that took off 20,000 took 125 ms"
    with pytest.raises(ListFull) as full:
        await store.lists.add(APP, BLACK, b"o", ids(11, "more"), FOREVER_MS, 2_000, 50)
    assert "the list holds 40 entries" in str(full.value)


async def test_thousands_of_full_lists_in_one_call_are_refused(valkey_store: Store) -> None:
    groups = [Group(b"o%d" % number, [b"a", b"b"]) for number in range(5_000)]
    with pytest.raises(ListFull):
        await valkey_store.lists.add_many("default", BLACK, groups, NOW, 1)


async def test_a_page_goes_on_from_its_place_while_the_list_grows(store: Store) -> None:
    await store.lists.add(APP, BLACK, b"o", ids(10), FOREVER_MS, NOW, None)
    first, before = await store.lists.page(APP, BLACK, b"o", NOW, None, 4)
    await store.lists.add(APP, BLACK, b"o", [b"newer"], FOREVER_MS, NOW, None)
    await store.lists.remove(APP, BLACK, b"o", [b"m6"], NOW)
    second, _ = await store.lists.page(APP, BLACK, b"o", NOW, before, 10)
    assert [entry.member for entry in first + second] == ids(10)[::-1]


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_page_out_of_bounds_is_refused(valkey_store: Store, count: int) -> None:
    with pytest.raises(InvalidInput):
        await valkey_store.lists.page(APP, BLACK, b"o", NOW, None, count)


async def test_switching_a_whitelist(store: Store, follower: Follower) -> None:
    users = ids(40)
    for on in (True, True, False, False):
        written = await store.lists.switch(APP, users, on, NOW)
        changes = await follower.read_new()
        assert sorted(change.user for change in changes) == sorted(users)
        assert {(change.kind, change.value) for change in changes} == {("whitelist-switched", b"1" if on else b"0")}
        assert follower.stands_at(written.revisions)
        assert await store.lists.switches(APP, [*users, b"other"]) == [on] * 40 + [False]
    assert (await snapshot_facts(store.changelog)).users == {}


TOO_MANY = [b"m%d" % number for number in range(MAX_IDS_A_CALL + 1)]


async def test_a_call_out_of_bounds_writes_nothing(valkey_store: Store) -> None:
    lists = valkey_store.lists
    for members, until_ms in ((TOO_MANY, FOREVER_MS), ([b"m"], 0), ([b"m"], FOREVER_MS + 1)):
        with pytest.raises(InvalidInput):
            await lists.add(APP, ListKind.BLACKLIST, b"o", members, until_ms, 1, None)
    groups = [Group(b"o%d" % half, TOO_MANY[half::2], FOREVER_MS) for half in (0, 1)]
    with pytest.raises(InvalidInput):
        await lists.add_many(APP, ListKind.BLACKLIST, groups, 1, None)
    with pytest.raises(InvalidInput):
        await lists.remove(APP, ListKind.BLACKLIST, b"o", TOO_MANY, 1)
    for owner in (b"o", b"o0", b"o1"):
        assert await lists.page(APP, ListKind.BLACKLIST, owner, 1, None, 5) == ([], None)
