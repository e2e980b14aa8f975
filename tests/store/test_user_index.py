"""The index of registered Users: every page of it, at any depth, equals that of one sorted list."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gate.store.store import Store
from gate.store.user_index import NEAR_ROWS, Row, UserIndex
from harness.seeds import seed
from tests.store.conftest import APP

SEED = seed(1)

USERS = NEAR_ROWS + 700
MOMENTS: dict[str, Callable[[int], int]] = {
    "all at one moment": lambda number: 5,
    "each at its own": lambda number: 1_700_000_000_000 + 60_000 * number,
    "in runs": lambda number: number // 400,
}


async def fill(store: Store, moments: str) -> list[Row]:
    rows = [(b"u%d" % number, MOMENTS[moments](number)) for number in range(USERS)]
    random.Random(SEED).shuffle(rows)
    async with store.bulk(APP, 1) as bulk:
        for user, at_ms in rows:
            await bulk.register(user, at_ms=at_ms)
        await bulk.flush()
    return sorted(rows, key=lambda row: (row[1], store.writer.partition_of(APP, row[0]), row[0]))


@pytest.mark.parametrize("moments", MOMENTS)
async def test_pages_cut_one_order(valkey_store: Store, moments: str) -> None:
    ordered = await fill(valkey_store, moments)
    for newest_first in (False, True):
        roll = UserIndex(valkey_store.client, valkey_store.partitions, APP, newest_first=newest_first)
        assert await roll.count() == USERS
        for count in (1, 100, 333):
            for offset in (0, 1, 99, NEAR_ROWS, NEAR_ROWS + 1, NEAR_ROWS + 333, USERS - 1, USERS, USERS + 5_000):
                assert await roll.page(offset, count) == (ordered[::-1] if newest_first else ordered)[offset:][:count]
        whole = [row for offset in range(0, USERS, 100) for row in await roll.page(offset, 100)]
        assert whole == (ordered[::-1] if newest_first else ordered)


async def test_an_empty_roll_has_empty_pages(valkey_store: Store) -> None:
    roll = UserIndex(valkey_store.client, valkey_store.partitions, "nobodys")
    assert (await roll.count(), await roll.page(0, 10), await roll.page(5_000, 10)) == (0, [], [])
