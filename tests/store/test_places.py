"""Pages after a position: exact while the listing changes, for Bans, Mutes, registered and deactivated Users."""

from __future__ import annotations

import random

import pytest

from gate.core.model import FOREVER_MS
from gate.store.places import Place
from gate.store.store import Store
from harness.seeds import seed
from tests.store.conftest import APP
from tests.store.odd_ids import ODD_IDS

SEED = seed(7)

NOW = 1_000


async def all_bans(store: Store, count: int) -> list[bytes]:
    found: list[bytes] = []
    place: Place | None = None
    while page := await store.bans.behind(APP, NOW, place, count):
        found += [one.user for one in page]
        place = page[-1].place
    return found


@pytest.mark.parametrize("count", [1, 7, 1_000])
async def test_pages_join_in_the_order_of_one_list(store: Store, count: int) -> None:
    users = [*ODD_IDS, *(b"u%d" % number for number in range(60))]
    for until_ms in (FOREVER_MS, 5_000, 5_001):
        await store.bans.impose(APP, users[: 20 if until_ms == 5_000 else None], until_ms, NOW)
    await store.bans.impose(APP, [b"over"], NOW, NOW)
    expected = [one.user for one in await store.bans.page(APP, NOW, 0, 1_000)]
    assert await all_bans(store, count) == expected
    assert len(expected) == len(set(users))


async def test_lifting_each_page_leaves_none(store: Store) -> None:
    users = [b"u%d" % number for number in range(150)]
    await store.bans.impose(APP, users, FOREVER_MS, NOW)
    place: Place | None = None
    while page := await store.bans.behind(APP, NOW, place, 50):
        place = page[-1].place
        await store.bans.lift(APP, [one.user for one in page], NOW)
    assert await store.bans.count(APP, NOW) == 0


async def test_what_stays_is_listed_once_while_others_come_and_go(store: Store) -> None:
    draw = random.Random(SEED)
    stays = {b"stays%d" % number for number in range(80)}
    await store.bans.impose(APP, sorted(stays), FOREVER_MS, NOW)
    seen: list[bytes] = []
    place: Place | None = None
    while page := await store.bans.behind(APP, NOW, place, 9):
        seen += [one.user for one in page]
        place = page[-1].place
        goes = [b"goes%d" % draw.randrange(200) for _ in range(12)]
        await store.bans.impose(APP, goes, draw.choice((FOREVER_MS, 9_000)), NOW)
        await store.bans.lift(APP, [b"goes%d" % draw.randrange(200) for _ in range(12)], NOW)
    assert sorted(user for user in seen if user in stays) == sorted(stays)


async def test_registered_and_deactivated_users_page_by_place(store: Store) -> None:
    users = [b"u%d" % number for number in range(25)]
    for at, user in enumerate(users):
        await store.users.register(APP, [user], NOW + at // 10)
    for newest_first in (False, True):
        found: list[bytes] = []
        place: Place | None = None
        while True:
            page, place = await store.users.behind(APP, place, 4, newest_first=newest_first)
            found += [one.user for one in page]
            if place is None:
                break
        assert found == sorted(users, key=lambda user: (int(user[1:]) // 10, user), reverse=newest_first)
    await store.deactivation.deactivate(APP, users, NOW)
    first = await store.deactivation.behind(APP, None, 20)
    rest = await store.deactivation.behind(APP, Place(first[-1].since_ms, first[-1].user), 20)
    assert [one.user for one in [*first, *rest]] == sorted(users, reverse=True)
