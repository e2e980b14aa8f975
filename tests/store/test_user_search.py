"""Search by a part of an id or name: every match once, in bounded steps, whatever the bytes."""

from __future__ import annotations

import pytest

from gate.errors import InvalidInput
from gate.store import user_search
from gate.store.store import Store
from gate.store.user_search import MAX_PART_BYTES, Noun, SearchPlace, checked_part, lua_patterns
from gate.store.users import Registration
from tests.store.conftest import APP
from tests.store.odd_ids import ODD_IDS

NOW = 1_000


async def all_found(store: Store, part: str, noun: Noun = "users", wanted: int = 7) -> list[bytes]:
    found: list[bytes] = []
    place: SearchPlace | None = SearchPlace()
    while place is not None:
        step = await store.search.step(APP, noun, part, place, wanted)
        assert len(step.users) <= wanted
        found += [one.member for one in step.users]
        place = step.following
    assert len(found) == len(set(found))
    return sorted(found)


@pytest.mark.parametrize("wanted", [1, 7, 1_000])
async def test_pages_hold_each_match_by_id_or_name_once(
    store: Store, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_search, "LOOKED_AT_A_STEP", 5)
    users = [b"u%d" % number for number in range(90)]
    rows = [Registration(user, NOW, "Anna Smith" if at % 9 == 0 else "Bob") for at, user in enumerate(users)]
    await store.users.register_all(APP, rows, NOW)
    assert await all_found(store, "u1", wanted=wanted) == sorted(user for user in users if b"u1" in user)
    assert await all_found(store, "a sm", wanted=wanted) == sorted(users[::9])
    assert await all_found(store, "stranger", wanted=wanted) == []


async def test_case_is_ignored_and_odd_ids_are_found(store: Store) -> None:
    names = ["Ärger", "Иван Петров", "小明", "100%"]
    await store.users.register_all(APP, [Registration(b"n%d" % at, NOW, name) for at, name in enumerate(names)], NOW)
    await store.users.register(APP, ODD_IDS, NOW)
    for part, user in (("ÄRGER", b"n0"), ("иван", b"n1"), ("明", b"n2"), ("0%", b"n3")):
        assert await all_found(store, part) == [user], part
    for user in ODD_IDS:
        if user.decode(errors="ignore").encode() == user:
            assert user in await all_found(store, user.decode()), user


async def test_each_index_is_searched_and_no_other(store: Store) -> None:
    await store.users.register_all(APP, [Registration(b"ann", NOW, "Ann"), Registration(b"bob", NOW, "Bob")], NOW)
    await store.bans.impose(APP, [b"ann", b"anon"], 5_000, NOW)
    await store.mutes.impose(APP, [b"bob"], 5_000, NOW)
    await store.deactivation.deactivate(APP, [b"anders"], NOW)
    assert await all_found(store, "an") == [b"ann"]
    assert await all_found(store, "an", "bans") == [b"ann", b"anon"]
    assert await all_found(store, "BOB", "mutes") == [b"bob"]
    assert await all_found(store, "an", "gone") == [b"anders"]


async def test_a_place_of_more_partitions_is_the_end(store: Store) -> None:
    step = await store.search.step(APP, "users", "a", SearchPlace(store.partitions), 5)
    assert (step.users, step.looked_at, step.following) == ([], 0, None)


def test_a_part_is_bounded() -> None:
    for part in ("", "x" * (MAX_PART_BYTES + 1)):
        with pytest.raises(InvalidInput):
            checked_part(part)
    assert lua_patterns("An%") == [b"[aA][nN]%%"] and len(lua_patterns("иВАН")) == 4
