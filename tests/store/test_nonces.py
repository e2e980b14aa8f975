"""Used nonces: first use, later use, and their end, on each server."""

from __future__ import annotations

import asyncio

import pytest

from gate.core.model import AppFacts
from gate.errors import StoreUnavailable
from gate.store import nonces
from gate.store.store import Store
from gate.store.sweep import Sweep
from harness.servers import RedisServer
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


async def test_any_text_is_a_nonce(store: Store) -> None:
    for odd in ("a b", ":", "{0}", "\r\n", "你", "\udcff", "0.5867700846513856"):
        assert await store.nonces.spend(APP, odd, MINUTE_MS)
        assert not await store.nonces.spend(APP, odd, MINUTE_MS)


async def test_it_is_forgotten_by_a_sweep_and_not_before(store: Store, each_redis: RedisServer) -> None:
    await store.apps.create(AppFacts(key=APP, secrets=("s",)), 1)
    assert await store.nonces.spend(APP, "n", MINUTE_MS)
    await Sweep(store).run(MINUTE_MS - 1)
    assert not await store.nonces.spend(APP, "n", MINUTE_MS)
    await Sweep(store).run(MINUTE_MS)
    assert list(each_redis.client.scan_iter(match=b"gate:*:nonces:*")) == []
    assert await store.nonces.spend(APP, "n", MINUTE_MS)


async def test_past_the_bound_none_is_taken(valkey_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonces, "MAX_NONCES", 0)
    with pytest.raises(StoreUnavailable):
        await valkey_store.nonces.spend(APP, "n", MINUTE_MS)
