"""Pages after a position: exact while the listing changes, for Bans, Mutes, registered and deactivated Users."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from itertools import count as counting
from typing import cast

import pytest

from gate.core.model import FOREVER_MS
from gate.store.client import Client
from gate.store.link import Command, Reply
from gate.store.places import Place, Row, entries_behind
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


def of_one_partition(store: Store, many: int, partition: int = 3) -> list[bytes]:
    users = (b"u%05d" % number for number in counting())
    return [next(user for user in users if store.writer.partition_of(APP, user) == partition) for _ in range(many)]


async def test_a_partition_that_holds_a_whole_page_gives_all_of_it(store: Store) -> None:
    crowd, others = of_one_partition(store, 400), [b"other%d" % number for number in range(40)]
    await store.bans.impose(APP, crowd, 9_000, NOW)
    await store.bans.impose(APP, others, 8_000, NOW)
    expected = [*sorted(crowd, reverse=True), *sorted(others, reverse=True)]
    assert await all_bans(store, 100) == expected
    assert [one.user for one in await store.bans.page(APP, NOW, 150, 270)] == expected[150:420]


async def test_a_page_is_whole_although_entries_leave_between_its_reads(store: Store) -> None:
    # At first the page ends soon in Partition 7; without the four before it, it reaches past what that one gave.
    leave = [user for partition in range(4) for user in of_one_partition(store, 30, partition)]
    stays = of_one_partition(store, 100, 7)
    await store.bans.impose(APP, leave, 9_000, NOW)
    await store.bans.impose(APP, stays, 8_000, NOW)

    async def meddle() -> None:
        await store.bans.lift(APP, leave, NOW)

    found = await read_with(store, meddle, 60)
    assert [user for _, user in found] == sorted(stays, reverse=True)[:60]


async def test_an_entry_that_moves_between_reads_is_on_the_page_once(store: Store) -> None:
    crowd = of_one_partition(store, 200)
    await store.bans.impose(APP, crowd, 9_000, NOW)

    async def meddle() -> None:
        await store.bans.impose(APP, crowd[-5:], 7_000, NOW)

    found = await read_with(store, meddle, 200)
    assert sorted(user for _, user in found) == crowd


async def read_with(store: Store, meddle: Callable[[], Awaitable[None]], count: int) -> list[Row]:
    """A page of Bans, with something that is done after the first of its reads."""

    class Meddled:
        reads = 0

        async def read(self, *commands: Command) -> list[Reply]:
            replies = await store.client.read(*commands)
            self.reads += 1
            if self.reads == 1:
                await meddle()
            return replies

    client = Meddled()
    sets = [store.bans.key(partition, APP) for partition in range(store.writer.partitions)]
    found = await entries_behind(cast("Client", client), sets, None, count, reverse=True)
    assert client.reads > 1, "one read sufficed, so nothing was proven"
    return found
