"""Rivals under a node's id: another data directory is distinguished from an earlier run in the same one, and live from dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gate.core.model import FOREVER_MS
from gate.core.revision import Position
from gate.store.acks import Acknowledger
from gate.store.nodes import NodeAnnouncer
from gate.store.store import Store
from harness.faked_clock import FakedClock
from harness.registry import settle
from harness.servers import RedisServer
from harness.waiting import wait_until_async

RENEWED_EVERY_S = 0.05
LIVES_MS = 60_000
"""Longer than any of this takes on a busy machine."""


@asynccontextmanager
async def alive(node: NodeAnnouncer) -> AsyncIterator[None]:
    """Renew its lease meanwhile, as a replicator does."""

    async def renew() -> None:
        while True:
            await node.renew({})
            await asyncio.sleep(RENEWED_EVERY_S)

    await node.renew({})
    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])


async def test_a_node_in_another_place_that_renews_is_a_rival(valkey_store: Store) -> None:
    async with alive(NodeAnnouncer(valkey_store.client, "n1", "here", LIVES_MS)):
        assert await valkey_store.announcer("n1", "there").has_rival()


async def test_the_run_before_in_the_same_place_is_none_though_its_lease_holds(valkey_store: Store) -> None:
    """As after a kill -9. A watch of it would see it renew."""
    async with alive(NodeAnnouncer(valkey_store.client, "n1", "here", LIVES_MS)):
        assert not await valkey_store.announcer("n1", "here").has_rival()


async def test_nodes_of_other_ids_are_none(valkey_store: Store) -> None:
    async with (
        alive(NodeAnnouncer(valkey_store.client, "n2", "there", LIVES_MS)),
        alive(NodeAnnouncer(valkey_store.client, "n1/n1", "there", LIVES_MS)),
    ):
        assert not await valkey_store.announcer("n1", "here").has_rival()


async def test_one_that_died_in_another_place_is_waited_out(valkey_store: Store) -> None:
    dead = NodeAnnouncer(valkey_store.client, "n1", "there", 500)
    await dead.renew({})
    here = valkey_store.announcer("n1", "here")
    assert not await here.has_rival()
    await here.renew({})
    assert await valkey_store.writer.live_nodes() == {"n1"}


@pytest.fixture
def clock(tmp_path: Path) -> FakedClock:
    return FakedClock(tmp_path / "clock")


@pytest.fixture
async def clocked(tmp_path: Path, clock: FakedClock) -> AsyncIterator[Store]:
    """A Store on a server whose wall clock steps."""
    server = RedisServer.start("valkey-9", tmp_path / "redis", env=clock.env)
    store = await Store.connect(server.url)
    await settle(store)
    yield store
    await store.aclose()
    server.stop()


async def server_ms(store: Store) -> int:
    (reply,) = await store.client.read(("TIME",))
    return int(reply[0]) * 1_000


@pytest.mark.parametrize("step_s", [60, -7_200])
async def test_a_step_of_the_servers_clock_ends_and_prolongs_no_lease(
    clocked: Store, clock: FakedClock, step_s: int
) -> None:
    acks, watcher = Acknowledger(clocked, None), clocked.announcer("n1")
    await acks.start()
    await NodeAnnouncer(clocked.client, "paused", lease_ttl_ms=2_000).renew({})
    await watcher.renew({})
    before_ms = await server_ms(clocked)
    clock.step_to(step_s)

    async def has_stepped() -> bool:
        return abs(await server_ms(clocked) - before_ms - step_s * 1_000) < 30_000

    await wait_until_async(has_stepped, 5, "the server to look at its clock")
    written = await clocked.bans.impose("app", [b"mallory"], FOREVER_MS, 1)
    await watcher.renew({p: Position(epoch, seq, "") for p, epoch, seq in written.revisions})
    assert "paused" in written.live_nodes
    assert await acks.wait(written, 100) == "pending", "a node that may be fresh has not announced it"

    async def has_ended() -> bool:
        await watcher.renew({})
        return "paused" not in await clocked.writer.live_nodes()

    await wait_until_async(has_ended, 5, "the lease to end, two seconds after its last beat")
    await acks.aclose()


async def test_the_registry_says_how_far_each_nodes_clock_is_from_the_servers(
    clocked: Store, clock: FakedClock
) -> None:
    node = clocked.announcer("n1")
    for step_s in (0, 90, -90):
        clock.step_to(step_s)

        async def is_known(step_s: int = step_s) -> bool:
            await node.renew({})  # the server may read its clock a moment later
            (listed,) = (await clocked.writer.registry()).nodes
            return abs(listed.clock_offset_ms + step_s * 1_000) < 2_000

        await wait_until_async(is_known, 5, "the offset after a step")
