"""Which nodes a write to a Cluster waits for, step by step: the list read in advance, and the marks that prove it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from gate.clock import monotonic_ms
from gate.core.model import FOREVER_MS
from gate.core.revision import Position
from gate.store import joins, keys
from gate.store.acks import Acknowledger
from gate.store.nodes import NodeAnnouncer
from gate.store.store import Store
from gate.store.writer import WriteReceipt
from harness.clusters import ClusterSetup, partition_slot
from harness.registry import settle
from harness.waiting import wait_until_async
from tests.store.conftest import APP, PATIENCE_MS
from tests.store.test_cluster import user_in

SOON_S = 20.0


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSetup]:
    setup = ClusterSetup.start("redis-7", tmp_path_factory.mktemp("cluster"))
    yield setup
    setup.stop()


@pytest.fixture
async def store(setup: ClusterSetup, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """Make its list of nodes as old as possible: only a mark makes it read again."""
    setup.empty()
    monkeypatch.setattr(joins, "REGISTRY_KEPT_MS", 3_600_000)
    opened = await Store.connect(setup.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    await opened.changelog.prepare()
    await settle(opened)
    yield opened
    await opened.aclose()


async def ban(store: Store, *partitions: int) -> WriteReceipt:
    return await store.bans.impose(APP, [user_in(partition) for partition in partitions], FOREVER_MS, 1)


def announcer(store: Store, name: str, lease_ttl_ms: int = 3_000) -> NodeAnnouncer:
    return NodeAnnouncer(store.client, name, lease_ttl_ms=lease_ttl_ms, partitions=store.partitions)


async def mark_in(store: Store, partition: int) -> joins.Mark:
    (reply,) = await store.client.query_each(joins.reading([partition]))
    return joins.mark_of(reply)


async def test_a_list_that_was_read_ahead_is_certain(store: Store) -> None:
    await announcer(store, "n1").renew({})
    first = await ban(store, 0, 1, 2)
    assert (first.live_nodes, bool(first.registry)) == (frozenset({"n1"}), True)
    again = await ban(store, 3)
    assert (again.live_nodes, again.registry) == (frozenset({"n1"}), first.registry)


async def test_a_node_that_joined_since_then_is_found(store: Store) -> None:
    await ban(store, 0)
    await announcer(store, "n2").renew({})
    written = await ban(store, 0)
    assert written.live_nodes == {"n2"} and written.registry, "its mark made the writer read the list again"


async def test_a_node_that_has_not_marked_yet_reads_the_write_with_its_heads(store: Store) -> None:
    await ban(store, 0)
    late = announcer(store, "n3")
    granted, registry = await late.take_lease("1")
    assert granted
    written = await ban(store, 0)
    assert written.live_nodes == frozenset() and written.registry
    assert late.joining is not None
    await late.joining.mark(registry)  # only after that its heads
    heads = await store.changelog.heads()
    (revision,) = written.revisions
    assert heads[revision.partition].seq >= revision.seq
    assert (await ban(store, 0)).live_nodes == {"n3"}


async def test_a_node_that_was_removed_and_comes_back_is_found(store: Store) -> None:
    brief, watcher = announcer(store, "brief", lease_ttl_ms=1), announcer(store, "watcher")
    await brief.renew({})

    async def is_removed() -> bool:
        await watcher.renew({})
        return await store.writer.live_nodes() == {"watcher"}

    await wait_until_async(is_removed, SOON_S, "the node to be found dead")
    store.writer.forget_registry()
    assert (await ban(store, 0)).live_nodes == {"watcher"}
    await brief.renew({})
    assert (await ban(store, 0)).live_nodes == {"watcher", "brief"}


async def test_a_mark_that_was_lost_makes_nothing_certain(store: Store) -> None:
    node = announcer(store, "n1")
    await node.renew({})
    assert (await ban(store, 0)).registry
    await store.client.read(("HDEL", keys.meta(0), "joined"))
    assert not (await ban(store, 0)).registry
    assert (await ban(store, 1)).registry, "the other Partitions have theirs"
    await node.renew({})
    assert not (await ban(store, 0)).registry, "it is not settled: a node may still go by what was there before"
    await settle(store)
    assert (await ban(store, 0)).registry


async def test_marks_of_another_list_make_nothing_certain(store: Store) -> None:
    node = announcer(store, "n1")
    await node.renew({})
    assert (await ban(store, 0)).registry
    await store.client.read(("DEL", keys.NODES))
    await node.renew({})  # another incarnation
    assert not (await ban(store, 0)).registry
    await settle(store)
    written = await ban(store, 0)
    assert written.registry and written.live_nodes == {"n1"}


async def test_a_late_mark_of_an_older_list_is_never_settled(store: Store) -> None:
    node = announcer(store, "n1")
    await node.renew({})
    before = await mark_in(store, 0)
    late = joins.Joining(store.client, 1, 3_000)
    registry = await store.writer.registry()
    await late.mark(registry._replace(incarnation="older", joins=99))
    assert not (await ban(store, 0)).registry
    await node.renew({})
    mark = await mark_in(store, 0)
    assert (mark.incarnation, mark.number, mark.is_settled) == (before.incarnation, registry.joins, False)


async def test_a_mark_that_was_replaced_and_came_back_is_watched_again(store: Store) -> None:
    lease_ms = 100
    first, other = joins.Joining(store.client, 1, lease_ms), joins.Joining(store.client, 1, lease_ms)
    registry = (await store.writer.registry())._replace(incarnation="i1", joins=1)
    await first.mark(registry)
    seen_at_ms = monotonic_ms()
    await other.mark(registry._replace(incarnation="i2"))
    await other.mark(registry)

    async def has_watched() -> bool:
        return monotonic_ms() - seen_at_ms > lease_ms

    await wait_until_async(has_watched, SOON_S, "a whole lease since the first mark")
    await first.mark(registry)
    assert not (await mark_in(store, 0)).is_settled, "it is not the mark that was seen for a lease"
    seen_at_ms = monotonic_ms()
    await wait_until_async(has_watched, SOON_S, "a whole lease since the mark that is there now")
    await first.mark(registry)
    assert (await mark_in(store, 0)).is_settled


async def test_a_failover_unsettles_the_partitions_of_that_master(setup: ClusterSetup, store: Store) -> None:
    await announcer(store, "n1").renew({})
    registry_at = setup.owner(int(setup.nodes[0].ask("KEYSLOT", keys.NODES)))
    partition = next(p for p in range(16) if setup.owner_of(p) is not registry_at)
    other = next(p for p in range(16) if setup.owner_of(p) is not setup.owner_of(partition))
    assert (await ban(store, partition, other)).registry
    await asyncio.to_thread(setup.fail_over, setup.owner_of(partition))

    async def is_seen() -> bool:
        return not (await ban(store, partition)).registry

    await wait_until_async(is_seen, SOON_S, "a write to the new master")
    assert (await ban(store, other)).registry
    await asyncio.to_thread(setup.wait_whole)
    await settle(store)
    assert (await ban(store, partition, other)).registry


async def test_a_write_counts_as_applied_on_the_server_that_took_it(setup: ClusterSetup, store: Store) -> None:
    node = announcer(store, "n1")
    await node.renew({})
    acks = Acknowledger(store, "n1")
    await acks.start()
    written = await ban(store, 0, 1, 2)
    applied = {partition: Position(epoch, seq, "tip") for partition, epoch, seq in written.revisions}
    assert await acks.wait(written, 50) == "pending"
    await node.announce(applied)
    assert await acks.wait(written) == "all"
    elsewhere = written._replace(servers=tuple(reversed(written.servers)))
    assert len(set(written.servers)) > 1 and await acks.wait(elsewhere, 50) == "pending"
    await acks.aclose()


async def test_without_the_registry_writes_are_taken_all_the_same(setup: ClusterSetup, store: Store) -> None:
    await announcer(store, "n1").renew({})
    assert (await ban(store, 0)).registry
    slot = int(setup.nodes[0].ask("KEYSLOT", keys.NODES))
    registry_at = setup.owner(slot)
    partition = next(p for p in range(16) if setup.owner(partition_slot(p)) is not registry_at)
    for node in setup.nodes:
        node.client.config_set("cluster-require-full-coverage", "no")
    brisk = await Store.connect(setup.url, deadline_ms=500, connect_ms=500)
    with registry_at.paused():
        written = await ban(brisk, partition)
        assert written.revisions and not written.registry
    await brisk.aclose()
