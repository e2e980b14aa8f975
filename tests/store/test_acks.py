from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest

from gate.core.revision import Position, Revision
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.acks import Acknowledged, Acknowledger, Announcement, pack_announcement
from gate.store.nodes import NodeAnnouncer
from gate.store.store import Store
from gate.store.subscription import Subscription
from gate.store.writer import WriteReceipt
from harness.registry import settle
from harness.servers import RedisServer
from harness.waiting import TIMER_EARLY_S, wait_until_async
from tests.store.conftest import APP

NOW = 1_000


async def ban(store: Store) -> WriteReceipt:
    return await store.bans.impose(APP, [b"ann", b"bob"], 5_000, NOW)


def positions(revisions: tuple[Revision, ...], behind: int = 0) -> dict[int, Position]:
    return {p: Position(epoch, seq - behind, "tip") for p, epoch, seq in revisions}


def has_heard(acks: Acknowledger, node: str, applied: dict[int, Position]) -> bool:
    heard = acks.heard[node].applied
    return all(partition in heard and heard[partition][1] == at.seq for partition, at in applied.items())


async def test_a_write_names_the_nodes_that_were_live(store: Store) -> None:
    assert (await ban(store)).live_nodes == frozenset()
    nodes = [store.announcer(name) for name in ("n1", "n2")]
    for node in nodes:
        await node.renew({})
    assert (await ban(store)).live_nodes == {"n1", "n2"}
    await nodes[1].leave()
    assert (await ban(store)).live_nodes == {"n1"}


async def test_the_newest_run_of_a_node_has_its_lease(store: Store) -> None:
    earlier, later = store.announcer("n1"), store.announcer("n1")
    await earlier.renew({})
    await store.announcer("n1/2").renew({})
    await later.renew({})
    with pytest.raises(StoreUnavailable, match="is a copy of the other's"):
        await earlier.renew({})
    await earlier.leave()
    assert await store.writer.live_nodes() == {"n1", "n1/2"}
    await later.leave()
    await earlier.renew({})
    assert await store.writer.live_nodes() == {"n1", "n1/2"}


async def test_a_lease_ends_and_leaves_no_trace(store: Store) -> None:
    await NodeAnnouncer(store.client, "n1", lease_ttl_ms=500).renew({})
    watcher = store.announcer("n2")

    async def has_ended() -> bool:
        await watcher.renew({})
        return await store.writer.live_nodes() == {"n2"}

    await wait_until_async(has_ended, 10, "a node to find it dead")
    (present,) = await store.client.read(("HKEYS", keys.NODES))
    assert set(present) == {b"node/n2", b"marker"}


async def test_a_lease_that_is_renewed_outlasts_every_watcher(store: Store) -> None:
    brief, watcher = NodeAnnouncer(store.client, "n1", lease_ttl_ms=300), store.announcer("n2")
    ends_s = time.monotonic() + 1
    while time.monotonic() < ends_s:
        for node in (brief, watcher):
            await node.renew({})
            assert "n1" in await store.writer.live_nodes()
        await asyncio.sleep(0.05)


async def test_all_once_every_live_node_has_it(store: Store, acks: Acknowledger) -> None:
    nodes = [store.announcer(name) for name in ("n1", "n2")]
    for node in nodes:
        await node.renew({})
    written = await ban(store)
    waiting = asyncio.ensure_future(acks.wait(written, 5_000))
    for name, node, behind in zip(("n1", "n2"), nodes, (0, 1), strict=True):
        applied = positions(written.revisions, behind=behind)
        await node.announce(applied)
        await wait_until_async(partial(has_heard, acks, name, applied), 10, "the announcement to be heard")
        assert not waiting.done(), "the second node has not announced, or is one Change behind"
    await nodes[1].announce(positions(written.revisions))
    assert await asyncio.wait_for(waiting, 10) == "all"


async def test_each_partition_counts(store: Store, acks: Acknowledger) -> None:
    node = store.announcer("n1")
    await node.renew({})
    written = await ban(store)
    assert len(written.revisions) == 2
    first, second = ({p: at} for p, at in positions(written.revisions).items())
    await node.announce(first)
    assert await acks.wait(written, 60) == "pending"
    await node.announce(second)
    assert await acks.wait(written, 10_000) == "all"


async def test_node_if_only_this_one_has_it_in_time(store: Store, acks: Acknowledger) -> None:
    for name in ("n1", "n2"):
        await store.announcer(name).renew({})
    written = await ban(store)
    await store.announcer("n1").announce(positions(written.revisions))
    begun_s = time.monotonic()
    assert await acks.wait(written, 100) == "node"
    assert 0.1 - TIMER_EARLY_S <= time.monotonic() - begun_s < 5


async def test_pending_while_this_node_has_not_even_without_a_lease(store: Store, acks: Acknowledger) -> None:
    await store.announcer("n2").renew({})
    written = await ban(store)
    assert written.live_nodes == {"n2"}
    await store.announcer("n2").announce(positions(written.revisions))
    assert await acks.wait(written, 100) == "pending"


async def test_an_announcement_before_the_wait_counts(store: Store, acks: Acknowledger) -> None:
    node = store.announcer("n1")
    written = await ban(store)
    await node.renew(positions(written.revisions))
    assert await acks.wait(written, 10_000) == "all"
    begun_s = time.monotonic()
    assert await acks.wait(written, 10_000) == "all"
    assert time.monotonic() - begun_s < 5, "at once, not after the ten seconds it may wait"


async def test_another_epoch_never_counts(store: Store, acks: Acknowledger) -> None:
    written = await ban(store)
    other = {p: Position("0" * 16, seq + 10, "tip") for p, _, seq in written.revisions}
    await store.announcer("n1").renew(other)
    assert await acks.wait(written, 100) == "pending"


async def test_a_node_whose_lease_ends_is_no_longer_waited_for(store: Store, acks: Acknowledger) -> None:
    await NodeAnnouncer(store.client, "dying", lease_ttl_ms=1_500).renew({})
    written = await ban(store)
    await store.announcer("n1").renew(positions(written.revisions))
    assert written.live_nodes == {"dying"}
    begun_s = time.monotonic()
    assert await acks.wait(written, 20_000) == "all"
    assert time.monotonic() - begun_s < 10


async def test_a_live_node_is_not_taken_for_a_lapsed_one_however_many_wait(store: Store, acks: Acknowledger) -> None:
    for name in ("n1", "n2"):
        await store.announcer(name).renew({})
    written = [await ban(store) for _ in range(30)]
    await store.announcer("n1").announce(positions(written[-1].revisions))
    waits = [asyncio.ensure_future(acks.wait(each, 700)) for each in written]
    assert set(await asyncio.gather(*waits)) == {"node"}


async def test_a_node_that_was_heard_counts_though_the_list_lost_it(store: Store, acks: Acknowledger) -> None:
    other = store.announcer("n2")
    await other.renew({})
    await store.announcer("n1").renew({})
    await wait_until_async(lambda: "n2" in acks.heard, 10, "the other node to be heard")
    await store.client.read(("HDEL", keys.NODES, "node/n2"))
    written = await ban(store)
    await store.announcer("n1").announce(positions(written.revisions))
    assert await acks.wait(written, 60) == "node"
    waiting = asyncio.ensure_future(acks.wait(written, 10_000))
    await asyncio.sleep(0)
    await other.leave()
    assert await asyncio.wait_for(waiting, 5) == "all", "it said that it left"
    assert "n2" not in acks.heard


async def test_a_run_that_was_replaced_does_not_end_the_lease_of_its_successor(
    store: Store, acks: Acknowledger
) -> None:
    earlier, later = store.announcer("n2"), store.announcer("n2")
    await earlier.renew({})
    await later.renew({})
    await wait_until_async(lambda: "n2" in acks.heard, 10, "the node to be heard")
    written = await ban(store)
    await store.announcer("n1").renew(positions(written.revisions))
    waiting = asyncio.ensure_future(acks.wait(written, 600))
    await earlier.leave()
    assert await waiting == "node"
    assert "n2" in acks.heard and "n2" in await store.writer.live_nodes()


async def test_a_list_that_may_lack_nodes_never_gives_all(store: Store, acks: Acknowledger) -> None:
    await store.client.read(("DEL", keys.NODES))
    node = store.announcer("n1")
    await node.renew({})
    written = await ban(store)
    await node.announce(positions(written.revisions))
    begun_s = time.monotonic()
    assert await acks.wait(written, 10_000) == "node"
    assert time.monotonic() - begun_s < 5, "it does not wait for more than the nodes that it knows"


async def test_a_list_that_was_replaced_after_the_write_gives_no_all(store: Store, acks: Acknowledger) -> None:
    node = store.announcer("n1")
    await node.renew({})
    written = await ban(store)
    assert written.registry
    await store.client.read(("DEL", keys.NODES))
    await node.renew(positions(written.revisions))
    assert await acks.wait(written, 1_000) == "node"


async def test_without_a_node_of_its_own(store: Store) -> None:
    acks = Acknowledger(store, None)
    await acks.start()
    assert await acks.wait(await ban(store), 50) == "pending", "the list may lack nodes, though none is known"
    await settle(store)
    assert await acks.wait(await ban(store), 1_000) == "all", "no node is live, so every live node has it"
    await store.announcer("n2").renew({})
    written = await ban(store)
    assert await acks.wait(written, 50) == "pending"
    await store.announcer("n2").announce(positions(written.revisions))
    assert await acks.wait(written, 10_000) == "all"
    await acks.aclose()


async def test_many_waits_at_once_all_end(store: Store, acks: Acknowledger) -> None:
    node = store.announcer("n1")
    await node.renew({})
    written = await asyncio.gather(*(store.bans.impose(APP, [b"u%d" % n], 5_000, NOW) for n in range(300)))
    waits = [asyncio.ensure_future(acks.wait(each, 5_000)) for each in written]
    await asyncio.sleep(0)
    heads = await store.changelog.heads()
    await node.announce(dict(enumerate(heads)))
    assert set(await asyncio.wait_for(asyncio.gather(*waits), 10)) == {"all"}


async def test_a_stranger_on_the_channel_is_passed_over(store: Store, acks: Acknowledger) -> None:
    link = acks.subscription.link
    unheard = pack_announcement(Announcement("n9", {}, has_left=True))
    for noise in (b"", b"hello", b"\xc1", b"\x93\x01\x02\x03", b"[1]", unheard):
        await store.client.read(("PUBLISH", keys.APPLIED_CHANNEL, noise))
    written = await ban(store)
    await store.announcer("n1").renew(positions(written.revisions))
    assert await acks.wait(written, 10_000) == "all"
    assert acks.subscription.link is link, "it is still the same subscription"


async def test_a_subscription_that_was_lost_is_taken_again(
    each_redis: RedisServer, store: Store, acks: Acknowledger
) -> None:
    written = await ban(store)
    each_redis.client.client_kill_filter(_type="pubsub")

    async def is_acknowledged() -> bool:
        await store.announcer("n1").renew(positions(written.revisions))  # repeated, as a replicator does
        return await acks.wait(written, 20) == "all"

    await wait_until_async(is_acknowledged, 5, "the subscription to be back")


async def test_after_a_loss_all_nodes_are_asked_for_their_positions(
    each_redis: RedisServer, store: Store, acks: Acknowledger
) -> None:
    asked: list[bytes] = []
    node = Subscription(store.client, keys.ASK_CHANNEL, lambda _, message: asked.append(message))
    await node.begin()
    assert acks.subscription.link is not None
    await acks.subscription.link.aclose()
    await wait_until_async(lambda: asked == [b""], 10, "the nodes to be asked")
    await node.aclose()


async def test_a_local_write_is_acknowledged_as_far_as_it_got(store: Store, acks: Acknowledger) -> None:
    await store.announcer("n2").renew({})
    written = await ban(store)
    await store.announcer("n1").renew(positions(written.revisions))
    assert await acks.acknowledge(written, 100) == Acknowledged("node", "")
    await store.announcer("n2").announce(positions(written.revisions))
    assert await acks.acknowledge(written, 10_000) == Acknowledged("all", "")


async def test_a_wait_ends_in_time_while_the_server_hangs(private_redis: RedisServer) -> None:
    store = await Store.connect(private_redis.url)
    acks = Acknowledger(store, "n1")
    await acks.start()
    written = await ban(store)
    with private_redis.paused():
        begun_s = time.monotonic()
        assert await acks.wait(written, 600) == "pending"
        assert time.monotonic() - begun_s < 5
    await acks.aclose()
    await store.aclose()


async def test_starting_on_a_dead_server_says_so(private_redis: RedisServer) -> None:
    store = await Store.connect(private_redis.url)
    private_redis.kill()
    acks = Acknowledger(store, "n1")
    with pytest.raises(StoreUnavailable):
        await acks.start()
    await acks.aclose()
    await store.aclose()
