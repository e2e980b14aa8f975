"""Who else runs under a node's id: another data directory is told apart from the same one's earlier run, and live from dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gate.store.nodes import NodeAnnouncer
from gate.store.store import Store

RENEWED_EVERY_S = 0.05
LIVES_MS = 60_000
"""Longer than any of this takes on a busy machine."""


@asynccontextmanager
async def alive(node: NodeAnnouncer) -> AsyncIterator[None]:
    """It renews its lease meanwhile, as a replicator does."""

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
    """As after a kill -9. If it were watched, it would be seen to renew."""
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
