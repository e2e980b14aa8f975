"""Leases of a node's own Gateway while the loop that serves its clients is held up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import pytest

from gate.core.presence import lease_of
from gate.presence import lease_keeper
from gate.store import presence_keys as keys
from harness.servers import RedisServer
from harness.waiting import NotInTime, wait_until, wait_until_async
from harness.websocket import connect
from tests.http.test_client_blacklist import token_of
from tests.http.world import LEASE_TTL_MS, World, running_world

A_LEASE_S = LEASE_TTL_MS / 1_000


def beat(node: World, redis_server: RedisServer) -> int:
    """How often the one lease was renewed; 0 if Redis does not have it. Blocks the loop, as all of what is tested here."""
    found = cast("dict[bytes, bytes]", redis_server.client.hgetall(keys.leases(node.app.key)))
    return sum(int(lease_of(gateway, packed).beat) for gateway, packed in found.items())


async def test_a_held_loop_keeps_its_leases(tmp_path: Path, private_redis: RedisServer) -> None:
    async with running_world(private_redis.url, tmp_path / "replica") as node:
        ann = await connect(node.url, token_of(node.app, "ann"))
        first = beat(node, private_redis)
        wait_until(lambda: beat(node, private_redis) > first, A_LEASE_S, "a renewal past the loop that waits here")
        wait_until(lambda: beat(node, private_redis) > first + 1, A_LEASE_S, "another one")
        assert (await ann.ask("presence", users=["ann"]))["presence"][0]["online"]
        await ann.leave()


async def test_a_loop_that_is_dead_keeps_none(
    tmp_path: Path, private_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_world(private_redis.url, tmp_path / "replica") as node:
        ann = await connect(node.url, token_of(node.app, "ann"))
        monkeypatch.setattr(lease_keeper, "MOST_HELD_MS", 0)
        time.sleep(lease_keeper.TURN_EVERY_S)  # what is under way may end
        before = beat(node, private_redis)
        with pytest.raises(NotInTime):
            wait_until(lambda: beat(node, private_redis) > before, A_LEASE_S, "no renewal")
        ann.drop()


async def test_sessions_come_back_if_redis_lost_the_lease_of_a_held_loop(
    tmp_path: Path, private_redis: RedisServer
) -> None:
    async with running_world(private_redis.url, tmp_path / "replica") as node:
        ann = await connect(node.url, token_of(node.app, "ann"))
        private_redis.client.delete(*private_redis.client.keys(f"gate:{{{node.app.key}}}:*"))
        wait_until(lambda: beat(node, private_redis), 2 * A_LEASE_S, "the lease to be taken again past the loop")

        async def is_online() -> bool:
            return (await node.presence.counts(node.app.key)).total == 1

        await wait_until_async(is_online, 3 * A_LEASE_S, "the Session to be brought back")
        await ann.leave()
