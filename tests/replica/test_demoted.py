"""A failover that this node is not informed of: its server was demoted to a replica, and another one takes the writes.

A demoted server closes no connection and still returns its heads, but they are outdated: the node is on no writer's list any
more, so no writer waits for it. It must report that it is stale, like a node that is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from gate.core.changes import Change
from gate.core.model import FOREVER_MS
from gate.core.revision import Position
from gate.replica.status_page import FRESH_GRACE_MS, State
from gate.store.acks import Acknowledger
from gate.store.registry import LEASE_TTL_MS
from gate.store.store import Store
from harness.ports import LOOPBACK, free_port
from harness.servers import RedisServer
from harness.waiting import wait_until
from tests.replica.node import APP, Node


@pytest.fixture
def successor(private_redis: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """A replica of the server that the node follows, in step with it."""
    server = RedisServer.start(private_redis.flavor, tmp_path / "successor")
    try:
        server.client.replicaof(LOOPBACK, private_redis.port)
        wait_until(lambda: server.client.info("replication")["master_link_status"] == "up", 10.0, "the first sync")
        yield server
    finally:
        server.stop()


@pytest.fixture
async def elsewhere(successor: RedisServer, redis_node: Node) -> AsyncIterator[Store]:
    """The writers' side, moved on to the successor."""
    successor.client.replicaof("NO", "ONE")
    opened = await Store.connect(successor.url)
    yield opened
    await opened.aclose()


async def banned_elsewhere(elsewhere: Store) -> str:
    """How far a Ban got that only the successor took, once its registry is settled by a node that is there."""
    acks, there = Acknowledger(elsewhere, None), elsewhere.announcer("node-2")
    await acks.start()
    try:
        while not (await elsewhere.writer.registry()).is_settled:
            await there.renew({})
            await asyncio.sleep(0.05)
        await there.leave()
        written = await elsewhere.bans.impose(APP, [b"mallory"], FOREVER_MS, 1)
        return await acks.wait(written, 2 * LEASE_TTL_MS)
    finally:
        await acks.aclose()


@pytest.mark.parametrize("is_waiting", [True, False], ids=["while it waits for Changes", "between two reads"])
async def test_a_node_left_behind_by_a_failover_is_stale_before_a_write_skips_it(
    private_redis: RedisServer, elsewhere: Store, redis_node: Node, followed: Store, is_waiting: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    between_reads, go_on = asyncio.Event(), asyncio.Event()
    read = followed.changelog.read

    async def held_up(after: Sequence[Position], block_ms: int) -> dict[int, list[Change]]:
        between_reads.set()
        await go_on.wait()
        return await read(after, block_ms)

    if not is_waiting:
        monkeypatch.setattr(followed.changelog, "read", held_up)
        await between_reads.wait()
    private_redis.client.replicaof(LOOPBACK, free_port())
    go_on.set()
    assert await banned_elsewhere(elsewhere) == "all", "its lease lapsed"
    assert redis_node.word(b"mallory", b"bob") == "allowed", "it can't know"
    assert redis_node.status_page.stale_ms > FRESH_GRACE_MS
    assert redis_node.status_page.state is State.CUT_OFF and redis_node.is_running
