"""Nonces that were used: first use, later use, and their end, on each server."""

from __future__ import annotations

import asyncio

from gate.store.store import Store
from tests.harness.servers import RedisServer
from tests.harness.waiting import wait_until_async
from tests.store.conftest import APP

MINUTE_MS = 60_000


async def test_a_nonce_is_spent_once(store: Store) -> None:
    assert await store.nonces.spend(APP, "n", MINUTE_MS)
    assert not await store.nonces.spend(APP, "n", MINUTE_MS)
    assert await store.nonces.spend(APP, "n2", MINUTE_MS)
    assert await store.nonces.spend("other", "n", MINUTE_MS)


async def test_of_many_at_once_one_is_the_first(store: Store) -> None:
    spent = await asyncio.gather(*(store.nonces.spend(APP, "n", MINUTE_MS) for _ in range(50)))
    assert spent.count(True) == 1


async def test_any_text_is_a_nonce_and_leaves_a_key_with_an_end(store: Store, each_redis: RedisServer) -> None:
    for odd in ("a b", ":", "{0}", "\r\n", "你", "\udcff", "0.5867700846513856"):
        assert await store.nonces.spend(APP, odd, MINUTE_MS)
        assert not await store.nonces.spend(APP, odd, MINUTE_MS)
    left_ms = [each_redis.client.pttl(key) for key in each_redis.client.scan_iter(match=b"gate:*:nonce:*")]
    assert len(left_ms) == 7
    assert all(0 < left <= MINUTE_MS for left in left_ms)


async def test_it_is_forgotten_by_itself(store: Store) -> None:
    assert await store.nonces.spend(APP, "n", 20)
    await wait_until_async(lambda: store.nonces.spend(APP, "n", 20), 5, "the nonce to be forgotten")
