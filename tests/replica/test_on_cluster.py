"""The replicator on a Redis Cluster: what `test_on_redis` asks of one server, and slots that move under it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gate.core.model import FOREVER_MS
from gate.core.revision import partition_of
from gate.replica.status_page import State
from gate.replica.verify import verify
from gate.store.acks import Acknowledger
from gate.store.store import Store
from harness.clusters import ClusterSetup
from harness.registry import settle
from harness.waiting import wait_until_async
from tests.replica import test_on_redis as on_redis
from tests.replica.conftest import FIRST_APP
from tests.replica.node import APP, Node, running

PATIENCE_MS = 10_000
BRISK_MS = 300
SETTLED_S = 20.0
"""After a slot has moved, writes say `node` for a lease, 3 to 4 s."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSetup]:
    setup = ClusterSetup.start("valkey-9", tmp_path_factory.mktemp("cluster"), replicas=0, node_timeout_ms=15_000)
    yield setup
    setup.stop()


@pytest.fixture
def cluster(started: ClusterSetup) -> ClusterSetup:
    started.empty()
    return started


@pytest.fixture
async def store(cluster: ClusterSetup) -> AsyncIterator[Store]:
    opened = await Store.connect(cluster.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    await opened.apps.create(FIRST_APP, 1)
    yield opened
    await opened.aclose()


@pytest.fixture
async def followed(store: Store, cluster: ClusterSetup) -> AsyncIterator[Store]:
    opened = await Store.connect(cluster.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    yield opened
    await opened.aclose()


@pytest.fixture
async def acks(store: Store, redis_node: Node) -> AsyncIterator[Acknowledger]:
    await settle(store)
    acks = Acknowledger(store, "node-1")
    await acks.start()
    yield acks
    await acks.aclose()


class TestFollowing(on_redis.TestFollowing):
    """The same tests, with three masters."""


async def is_answered_all(store: Store, acks: Acknowledger) -> bool:
    written = await store.bans.impose(APP, [b"again"], FOREVER_MS, 3)
    return await acks.wait(written, PATIENCE_MS) == "all"


async def test_slots_that_move_lose_no_change_and_load_no_snapshot(
    cluster: ClusterSetup, redis_node: Node, store: Store, acks: Acknowledger
) -> None:
    before = redis_node.status_page.generation
    for partition in (0, 7, 12):
        users = [b"u%d-%d" % (partition, number) for number in range(20)]
        target = next(master for master in cluster.masters if master is not cluster.owner_of(partition))
        await store.bans.impose(APP, users[:10], FOREVER_MS, 1)
        cluster.move_partition(partition, target)
        written = await store.bans.impose(APP, users[10:], FOREVER_MS, 2)
        assert await acks.wait(written, PATIENCE_MS) in ("all", "node"), "the nodes are listed again for a lease"
        await wait_until_async(lambda: is_answered_all(store, acks), SETTLED_S, "the list of nodes to be settled")
    assert redis_node.status_page.generation == before
    assert (await verify(redis_node.directory, store.changelog)).equal


async def test_facts_of_the_masters_that_answer_go_on_but_none_is_fresh(
    cluster: ClusterSetup, store: Store, tmp_path: Path
) -> None:
    followed = await Store.connect(cluster.url, deadline_ms=BRISK_MS, connect_ms=BRISK_MS)
    away = cluster.owner_of(3)
    partition = next(p for p in range(1, 16) if cluster.owner_of(p) is not away)
    user = next(u for n in range(2_000) if partition_of(APP, u := b"u%d" % n, 16) == partition)
    async with running(tmp_path / "replica", followed.changelog, followed.announcer("node-1")) as node:
        await node.until_ready()
        generation = node.status_page.generation
        with away.paused():
            await node.until(lambda: node.status_page.stale_ms, "the facts to be stale")
            await store.bans.impose(APP, [user], FOREVER_MS, 1)
            await node.until_word(user, b"any", "sender-banned")
            view = node.status_page
            assert view.state is State.CUT_OFF and view.stale_ms > 0
            assert "redis-partly-away" in [line.get("reason") for line in node.logged]
        await node.until_state(State.CURRENT)
        view = node.status_page
        assert (view.stale_ms, view.generation) == (0, generation)
    await followed.aclose()


class TestVerify:
    """The test of it that needs no cable."""

    test_it_finds_what_differs = on_redis.TestVerify.test_it_finds_what_differs
