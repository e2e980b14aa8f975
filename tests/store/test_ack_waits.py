"""Waits for acknowledgements: which nodes each waits for, what it learns meanwhile, and how long it lasts."""

from __future__ import annotations

import asyncio
import time

import pytest

from gate.store import acks as acks_module
from gate.store import keys
from gate.store.acks import LOOK_AGAIN_MS, Acknowledged, Acknowledger, Announcement, pack_announcement
from gate.store.durability import LOCAL, Durability
from gate.store.registry import Registry
from gate.store.store import Store
from harness.servers import RedisServer
from harness.waiting import TIMER_EARLY_S, wait_until_async
from tests.store.test_acks import ban, positions


async def until_it_looked(store: Store, acks: Acknowledger, node: str = "silent") -> None:
    """Until a wait has read the list: it reveals a node that announces nothing."""
    await store.announcer(node).take_lease("1")
    await wait_until_async(lambda: node in acks.heard, 10, "the list to be read")


async def test_its_own_node_is_waited_for_though_the_list_lacks_it(store: Store, acks: Acknowledger) -> None:
    written = await ban(store)
    waiting = asyncio.ensure_future(acks.wait(written, 20_000))
    await until_it_looked(store, acks)
    assert not waiting.done()
    await store.announcer("n1").announce(positions(written.revisions))
    assert await asyncio.wait_for(waiting, 10) == "all"


async def test_a_node_heard_lately_is_waited_for_though_the_list_lacks_it(store: Store, acks: Acknowledger) -> None:
    other = store.announcer("n2")
    await other.renew({})
    await wait_until_async(lambda: "n2" in acks.heard, 10, "the other node to be heard")
    await store.client.read(("HDEL", keys.NODES, "node/n2"))
    written = await ban(store)
    await store.announcer("n1").announce(positions(written.revisions))
    waiting = asyncio.ensure_future(acks.wait(written, 20_000))
    await until_it_looked(store, acks)
    assert not waiting.done()
    await other.announce(positions(written.revisions))
    assert await asyncio.wait_for(waiting, 10) == "all"


async def test_a_listed_node_that_was_never_heard_is_waited_for_until_it_leaves(
    store: Store, acks: Acknowledger
) -> None:
    quiet = store.announcer("n2")
    await quiet.take_lease("1")
    written = await ban(store)
    await store.announcer("n1").renew(positions(written.revisions))
    assert await acks.wait(written, 60) == "node"
    await quiet.take_lease("")
    assert await asyncio.wait_for(acks.wait(written, 20_000), 10) == "all"


async def test_what_was_announced_counts_after_the_list_was_read(store: Store, acks: Acknowledger) -> None:
    node = store.announcer("n1")
    written = await ban(store)
    first, second = ({p: at} for p, at in positions(written.revisions).items())
    await node.renew(first)
    waiting = asyncio.ensure_future(acks.wait(written, 20_000))
    await until_it_looked(store, acks)
    await node.announce(second)
    assert await asyncio.wait_for(waiting, 10) == "all"
    assert await acks.wait(written, 60) == "node", "the node that the list revealed has not announced it"


@pytest.mark.parametrize("revealed_by", ["list", "announcement"])
async def test_a_list_that_is_replaced_during_the_wait_gives_no_all(
    store: Store, acks: Acknowledger, revealed_by: str
) -> None:
    node, other = store.announcer("n1"), store.announcer("n1")
    await node.renew({})
    written = await ban(store)
    waiting = asyncio.ensure_future(acks.wait(written, 20_000))
    await wait_until_async(lambda: acks.waiting == 1, 10, "the wait to begin")
    await store.client.read(("DEL", keys.NODES))
    if revealed_by == "list":
        await until_it_looked(store, acks)
    else:
        await other.renew({})
    await node.announce(positions(written.revisions))
    assert await asyncio.wait_for(waiting, 10) == "node"


async def test_a_wait_that_ends_leaves_the_others(store: Store, acks: Acknowledger) -> None:
    written = await ban(store)
    waiting = asyncio.ensure_future(acks.wait(written, 20_000))
    assert await acks.wait(written, 20) == "pending"
    assert acks.waiting == 1
    await store.announcer("n1").announce(positions(written.revisions))
    assert await asyncio.wait_for(waiting, 10) == "all"
    assert acks.waiting == 0


async def test_each_partition_counts_for_the_server_that_took_it(store: Store, acks: Acknowledger) -> None:
    """As on a Cluster, where each Partition may be on another server, and the list on a third."""
    written = (await ban(store))._replace(servers=("run-a", "run-b"))
    p, q = (revision.partition for revision in written.revisions)
    applied = {partition: (epoch, seq) for partition, epoch, seq in written.revisions}

    async def answer(servers: dict[str, list[int]], expected: str) -> None:
        said = Announcement("n1", applied, "run-of-the-list", servers=servers)
        await store.client.publish(keys.APPLIED_CHANNEL, pack_announcement(said))
        assert await acks.wait(written, 10_000 if expected == "all" else 60) == expected

    await answer({}, "pending")
    await answer({"run-a": [p]}, "pending")
    await answer({"run-a": [q], "run-b": [p]}, "pending")
    await answer({"run-a": [p, q]}, "pending")
    await answer({"run-a": [p], "run-b": [q]}, "all")


async def test_a_write_that_changed_nothing_needs_a_node_of_the_same_server(store: Store, acks: Acknowledger) -> None:
    written = (await ban(store))._replace(revisions=())
    assert await acks.wait(written, 60) == "pending", "this node may follow another server"
    await store.announcer("n1").renew({})
    assert await acks.wait(written, 10_000) == "all"
    assert await acks.wait(written._replace(server_id="another"), 60) == "pending"


@pytest.mark.parametrize("durability", [LOCAL, Durability("replica", 0)], ids=["local", "confirmed at once"])
async def test_a_wait_lasts_as_long_as_the_caller_says(store: Store, durability: Durability) -> None:
    acks = Acknowledger(store, "n1", durability)
    await acks.start()
    written = await ban(store)

    async def is_brief() -> bool:
        begun_s = time.monotonic()
        assert await acks.acknowledge(written, 20) == Acknowledged("pending", "")
        return time.monotonic() - begun_s < 0.9

    await wait_until_async(is_brief, 10, "a wait of 20 ms to be shorter than one of a second")
    await acks.aclose()


async def test_a_wait_goes_on_while_the_server_is_away(private_redis: RedisServer) -> None:
    store = await Store.connect(private_redis.url)
    acks = Acknowledger(store, "n1")
    await acks.start()
    written = await ban(store)
    private_redis.kill()
    begun_s = time.monotonic()
    assert await acks.wait(written, 600) == "pending"
    assert time.monotonic() - begun_s >= 0.6 - TIMER_EARLY_S
    await acks.aclose()
    await store.aclose()


def counted_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Registry]:
    """What waits read of the list from now on."""
    read, reads = store.writer.registry, list[Registry]()

    async def counted() -> Registry:
        reads.append(await read())
        return reads[-1]

    monkeypatch.setattr(store.writer, "registry", counted)
    return reads


async def test_a_list_read_in_the_millisecond_of_the_write_is_read_again(
    store: Store, acks: Acknowledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be from before the write, and lack a node that took its lease in between and has not announced anything."""
    monkeypatch.setattr(acks_module, "monotonic_ms", lambda: 1_000)
    reads = counted_reads(store, monkeypatch)
    own = store.announcer("n1")
    await own.renew({})
    first = asyncio.ensure_future(acks.wait(await ban(store), 20_000))
    await wait_until_async(lambda: len(reads) == 1, 10, "the list to be read")
    await store.announcer("n2").take_lease("1")
    written = await ban(store)
    assert written.live_nodes == {"n1", "n2"}
    await own.announce(positions(written.revisions))
    assert await first == "all", "that write was before the other node came"
    assert await acks.wait(written, 3 * LOOK_AGAIN_MS) == "node"


async def test_waits_that_overlap_share_one_read_of_the_list(
    store: Store, acks: Acknowledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.announcer("n2").renew({})
    reads = counted_reads(store, monkeypatch)
    written = await ban(store)
    now_ms = 1_000
    monkeypatch.setattr(acks_module, "monotonic_ms", lambda: now_ms)
    waits = [asyncio.ensure_future(acks.wait(written, 3 * LOOK_AGAIN_MS)) for _ in range(30)]
    await wait_until_async(lambda: acks.waiting == len(waits), 10, "the waits to begin")
    now_ms += 2 * LOOK_AGAIN_MS
    assert set(await asyncio.gather(*waits)) == {"pending"}
    assert len(reads) == 1
