"""Two nodes on a Redis Cluster: slots move and masters die under writes that they apply and acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gate.core.model import FOREVER_MS, AppFacts
from gate.core.partition import partition_of
from gate.errors import StoreUnavailable
from gate.replica.board import State
from gate.store import keys
from gate.store.acks import Acknowledged, Acknowledger
from gate.store.durability import Durability
from gate.store.store import Store
from gate.store.topology import slot_of
from tests.harness.clusters import ClusterNode, ClusterSetup
from tests.harness.registry import settle
from tests.harness.waiting import wait_until_async
from tests.replica.node import APP, Node, running

ANSWER_MS, CONNECT_MS = 3_000, 2_000
IN_TIME_S = 40.0
ACK_MS = 5_000


class Deployment:
    """A Cluster, two nodes on it, and a writer."""

    def __init__(self, setup: ClusterSetup, writer: Store, nodes: list[Node], acks: Acknowledger) -> None:
        self.setup, self.writer, self.nodes, self.acks = setup, writer, nodes, acks
        self._users = {p: self._users_of(p) for p in range(writer.partitions)}
        self.acknowledged: list[bytes] = []

    @staticmethod
    def _users_of(partition: int) -> Iterator[bytes]:
        return (user for n in range(100_000) if partition_of(APP, user := b"u%d" % n, 16) == partition)

    async def ban(self, partition: int) -> Acknowledged:
        """One more User of this Partition. What is answered `all` must be so on both nodes, now."""
        user = next(self._users[partition])
        written = await self.writer.bans.impose(APP, [user], FOREVER_MS, 1)
        acknowledged = await self.acks.acknowledge(written, ACK_MS)
        if acknowledged.applied == "all":
            self.acknowledged.append(user)
            for node in self.nodes:
                assert node.word(user, b"anyone") == "sender-banned" or node.board.stale_ms
        return acknowledged

    async def until_all(self, partitions: list[int], what: str) -> None:
        """Until a write to each is answered `all`."""
        for partition in partitions:

            async def is_all(partition: int = partition) -> bool:
                try:
                    return (await self.ban(partition)).applied == "all"
                except StoreUnavailable:
                    return False

            await wait_until_async(is_all, IN_TIME_S, f"`all` in Partition {partition}: {what}")

    def other_than(self, master: ClusterNode) -> ClusterNode:
        return next(node for node in self.setup.masters if node is not master)

    def loads(self) -> list[int]:
        return [len(node.reasons()) for node in self.nodes]


@pytest.fixture(params=["redis-7", "valkey-9"])
def setup(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClusterSetup]:
    setup = ClusterSetup.start(request.param, tmp_path / "cluster", extra=["--cluster-require-full-coverage", "no"])
    yield setup
    setup.stop()


@pytest.fixture
async def deployment(setup: ClusterSetup, tmp_path: Path) -> AsyncIterator[Deployment]:
    async with AsyncExitStack() as stack:
        stores = [await Store.connect(setup.url, deadline_ms=ANSWER_MS, connect_ms=CONNECT_MS) for _ in range(3)]
        for store in stores:
            stack.push_async_callback(store.aclose)
        writer, *followed = stores
        await writer.apps.create(AppFacts(key=APP, secrets=("s",)), 1)
        nodes = [
            await stack.enter_async_context(
                running(tmp_path / f"node-{at}", store.changelog, store.announcer(f"node-{at}", f"place{at}"))
            )
            for at, store in enumerate(followed)
        ]
        for node in nodes:
            await node.until_ready()
        await settle(writer)
        acks = Acknowledger(writer, "node-0", Durability("replica"))
        await acks.start()
        stack.push_async_callback(acks.aclose)
        made = Deployment(setup, writer, nodes, acks)
        await made.until_all(list(range(16)), "at the start")
        yield made


async def test_slots_that_move_are_followed_without_another_snapshot(deployment: Deployment) -> None:
    loads = deployment.loads()
    for partition in (0, 3):
        source = deployment.setup.owner_of(partition)
        await asyncio.to_thread(deployment.setup.move_partition, partition, deployment.other_than(source))
        await settle(deployment.writer)
        await deployment.until_all([partition, 1], "after the move")
    for node in deployment.nodes:
        await node.until_state(State.CURRENT)
    assert deployment.loads() == loads


async def test_a_master_is_added_and_takes_partitions(deployment: Deployment) -> None:
    loads = deployment.loads()
    master = await asyncio.to_thread(deployment.setup.add_master, 1)
    for partition in (2, 7):
        await asyncio.to_thread(deployment.setup.move_partition, partition, master)
    await settle(deployment.writer)
    await deployment.until_all([2, 7, 1], "after the move")
    assert deployment.loads() == loads


@pytest.mark.parametrize("killed", [0, 3], ids=["with the registry", "with facts only"])
async def test_what_was_acknowledged_outlives_its_master(deployment: Deployment, killed: int) -> None:
    dead = deployment.setup.owner_of(killed)
    of_others = [p for p in range(16) if deployment.setup.owner_of(p) is not dead]
    # The registry and the channels may be on it: then nothing can be acknowledged until its replica is elected.
    slots = {slot_of(keys.NODES), slot_of(keys.APPLIED_CHANNEL)}
    is_only_of_facts = killed == 3
    assert is_only_of_facts == all(deployment.setup.owner(slot) is not dead for slot in slots)
    dead.kill()

    async def is_noticed() -> bool:
        return all(node.board.state is State.CUT_OFF for node in deployment.nodes)

    if is_only_of_facts:
        await wait_until_async(is_noticed, IN_TIME_S, "the nodes to be cut off")
        assert (await deployment.ban(of_others[0])).applied == "all", "the other masters' Changes are applied"
    await asyncio.to_thread(deployment.setup.wait_promoted, dead)
    await asyncio.to_thread(dead.launch)
    await asyncio.to_thread(deployment.setup.wait_whole)
    await deployment.until_all([killed, of_others[0]], "after the failover")
    for node in deployment.nodes:
        await node.until_state(State.CURRENT)
        for user in deployment.acknowledged:
            assert node.word(user, b"anyone") == "sender-banned"


async def test_the_master_of_the_channels_and_of_the_registry_is_replaced(deployment: Deployment) -> None:
    for key in (keys.APPLIED_CHANNEL, keys.NODES):
        await asyncio.to_thread(deployment.setup.wait_whole)
        await asyncio.to_thread(deployment.setup.fail_over, deployment.setup.owner(slot_of(key)))
        await settle(deployment.writer)
        await deployment.until_all([0, 6, 11], "after the failover")


async def test_the_slot_of_the_channels_moves(deployment: Deployment) -> None:
    slot = slot_of(keys.APPLIED_CHANNEL)
    source = deployment.setup.owner(slot)
    await asyncio.to_thread(deployment.setup.move_slots, [slot], deployment.other_than(source))
    await deployment.until_all([0, 6, 11], "with announcements from another master")
