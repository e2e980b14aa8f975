"""A Redis Cluster behind the Store: calls go to the masters of their slots, while slots move and masters die."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.core.revision import partition_of
from gate.errors import StoreUnavailable
from gate.store import keys, scripts
from gate.store.cluster import ClusterClient
from gate.store.link import LinkLost, ReplyError
from gate.store.scripts import Call
from gate.store.store import Store
from gate.store.subscription import Subscription
from gate.store.topology import slot_of
from gate.store.writer import WriteReceipt
from harness.clusters import ClusterSetup, partition_slot
from harness.servers import Flavor
from harness.waiting import wait_until_async
from tests.store.acl import PASSWORD, change_user, denied, documented_words, make_user
from tests.store.conftest import APP, PATIENCE_MS
from tests.store.following import Follower, snapshot_facts
from tests.store.touring import tour

BACK_S = 20.0
FLAVORS: tuple[Flavor, ...] = ("redis-7", "valkey-9")


@pytest.fixture(params=FLAVORS)
def setup(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClusterSetup]:
    setup = ClusterSetup.start(request.param, tmp_path)
    yield setup
    setup.stop()


@pytest.fixture
async def store(setup: ClusterSetup) -> AsyncIterator[Store]:
    opened = await Store.connect(setup.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    await opened.apps.create(AppFacts(key=APP, secrets=("s",)), 1)
    yield opened
    await opened.aclose()


def user_in(partition: int, number: int = 0) -> bytes:
    """Return a User of a Partition."""
    return [user for n in range(2_000) if partition_of(APP, user := b"u%d" % n, 16) == partition][number]


async def ban(store: Store, user: bytes, until_ms: int = FOREVER_MS) -> None:
    await store.bans.impose(APP, [user], until_ms, 1)


async def is_banned(store: Store, user: bytes) -> bool:
    (until,) = await store.client.read(("ZSCORE", keys.bans(partition_of(APP, user, store.partitions), APP), user))
    return until is not None


class Writing:
    """Bans of new Users, one after the other, and the answer to each."""

    def __init__(self, store: Store, partitions: list[int]) -> None:
        self._store = store
        self._users = {
            partition: [u for n in range(40_000) if partition_of(APP, u := b"w%d" % n, 16) == partition]
            for partition in partitions
        }
        self.done: list[bytes] = []
        self.refused: list[bytes] = []
        self.unknown: list[bytes] = []
        self.problems: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Writing:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        if self._task.done():
            self._task.result()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def more(self, count: int = 50) -> None:
        """Wait for this many more acknowledged writes."""
        wanted = len(self.done) + count

        async def are_in() -> bool:
            assert self._task is not None and not self._task.done(), self._task
            return len(self.done) >= wanted

        await wait_until_async(are_in, BACK_S, f"{count} more writes; {self.problems}")

    async def _run(self) -> None:
        for users in zip(*self._users.values(), strict=False):
            for user in users:
                try:
                    await ban(self._store, user)
                except StoreUnavailable as fault:
                    self.problems.add(str(fault))
                    (self.unknown if fault.outcome == "unknown" else self.refused).append(user)
                    await asyncio.sleep(0.005)
                else:
                    self.done.append(user)

    async def check(self, store: Store) -> None:
        """The answers must be true: acknowledged Bans exist, refused ones do not."""
        assert [user for user in self.done if not await is_banned(store, user)] == []
        assert [user for user in self.refused if await is_banned(store, user)] == []


@pytest.mark.parametrize("setup", ["redis-7"], indirect=True)
async def test_each_call_goes_to_the_master_of_its_slot(setup: ClusterSetup, store: Store) -> None:
    users = [user_in(partition) for partition in range(16)]
    written = await store.bans.impose(APP, users, FOREVER_MS, 1)
    assert [revision.partition for revision in written.revisions] == sorted(range(16), key=written_order(written))
    assert len(set(written.servers)) == 3 and "" not in written.servers
    for partition, user in enumerate(users):
        owner = setup.owner_of(partition)
        assert owner.client.zscore(keys.bans(partition, APP), user) is not None
    assert isinstance(store.client, ClusterClient)
    assert len(await store.client.masters()) == 3
    assert await store.client.read(("PING",)) == [b"PONG"]


def written_order(written: WriteReceipt) -> Callable[[int], int]:
    order = [revision.partition for revision in written.revisions]
    return order.index


async def test_no_write_is_lost_while_its_slot_is_moved(setup: ClusterSetup, store: Store) -> None:
    follower = await Follower.start(store.changelog)
    async with Writing(store, [0, 1, 2, 3]) as writing:
        await writing.more()
        for partition in (0, 1):
            source = setup.owner_of(partition)
            target = next(node for node in setup.masters if node is not source)
            await asyncio.to_thread(setup.move_partition, partition, target)
            await writing.more()
    assert writing.unknown == [], writing.problems
    await writing.check(store)
    await follower.read_new()
    assert follower.facts.users == (await snapshot_facts(store.changelog)).users
    assert {user for (_, user), facts in follower.facts.users.items() if facts.banned_until_ms} >= set(writing.done)


@pytest.mark.parametrize("setup", ["redis-7"], indirect=True)
async def test_writes_to_a_slot_on_its_way_wait_or_are_refused(setup: ClusterSetup, store: Store) -> None:
    slot = partition_slot(1)
    source = setup.owner(slot)
    target = next(node for node in setup.masters if node is not source)
    await ban(store, user_in(1))
    brisk = await Store.connect(setup.url, deadline_ms=300, connect_ms=PATIENCE_MS)
    setup.begin_move([slot], target)
    # Half of its keys are there, so a script that needs keys of both gets TRYAGAIN.
    setup.move_keys(slot, target, most=1)
    with pytest.raises(StoreUnavailable, match="is being moved to another master") as refused:
        await ban(brisk, user_in(1, 1))
    assert refused.value.outcome == "not-written"
    with pytest.raises(StoreUnavailable, match="being moved"):
        async for _ in brisk.snapshot():
            pass
    waiting = asyncio.create_task(ban(store, user_in(1, 2)))
    await asyncio.to_thread(setup.move_keys, slot, target)
    assert await is_banned(store, user_in(1)), "a read is asked of the server that its key was moved to"
    await asyncio.to_thread(setup.end_move, [slot], target)
    await waiting
    assert await is_banned(store, user_in(1, 2)) and not await is_banned(store, user_in(1, 1))
    await brisk.aclose()


@pytest.mark.parametrize("setup", ["redis-7"], indirect=True)
async def test_a_script_that_makes_names_waits_for_the_slot(setup: ClusterSetup, store: Store) -> None:
    base = b"gate:{app}:"
    slot = slot_of(base)
    source = setup.owner(slot)
    target = next(node for node in setup.masters if node is not source)
    source.client.hset(base + b"leases", "gateway", "7:1:1:1")
    setup.begin_move([slot], target)
    call = Call(scripts.PRESENCE_LEASE, [base], ["1", "gateway", "", 100])
    renewing = asyncio.create_task(store.client.write([call]))
    await asyncio.sleep(0.05)
    assert not renewing.done() and target.client.dbsize() >= 0
    assert target.client.execute_command("CLUSTER COUNTKEYSINSLOT", slot) == 0, "nothing was made up there"
    await asyncio.to_thread(setup.move_keys, slot, target)
    await asyncio.to_thread(setup.end_move, [slot], target)
    ((word, epoch, *_),) = await renewing
    assert (word, int(epoch)) == (b"ok", 8), "it found the lease that was moved"


async def test_a_master_that_dies_costs_its_own_slots_only(setup: ClusterSetup, store: Store) -> None:
    for node in setup.nodes:
        node.client.config_set("cluster-require-full-coverage", "no")
    dead = setup.owner_of(0)
    partitions = range(16)
    others = [partition for partition in partitions if setup.owner_of(partition) is not dead]
    async with Writing(store, others[:3]) as unaffected, Writing(store, [0]) as affected:
        await unaffected.more()
        await affected.more()
        await asyncio.to_thread(setup.nodes[0].client.ping)
        dead.kill()
        begun_s = time.monotonic()
        await unaffected.more(200)
        await asyncio.to_thread(setup.wait_promoted, dead)
        await affected.more()
        took_s = time.monotonic() - begun_s
    assert unaffected.problems == set()
    assert affected.refused, "it failed fast meanwhile"
    assert took_s < BACK_S
    await unaffected.check(store)
    assert [user for user in affected.refused if await is_banned(store, user)] == []


async def test_a_failover_by_command_loses_nothing(setup: ClusterSetup, store: Store) -> None:
    async with Writing(store, [0, 1, 2, 3]) as writing:
        for _ in range(2):
            await writing.more()
            await asyncio.to_thread(setup.wait_whole)
            await asyncio.to_thread(setup.fail_over, setup.owner_of(0))
        await writing.more()
    await writing.check(store)


@pytest.mark.parametrize("setup", ["valkey-9"], indirect=True)
async def test_an_import_ends_if_a_master_is_replaced_meanwhile(setup: ClusterSetup, store: Store) -> None:
    """It has connections of its own, each to a master of its beginning."""
    before = store.client.master_of(keys.meta(0)).address
    async with store.bulk(APP, 1) as bulk:
        await bulk.ban(user_in(0), FOREVER_MS)
        await bulk.flush()
        await asyncio.to_thread(setup.fail_over, setup.owner_of(0))

        async def is_known() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return store.client.master_of(keys.meta(0)).address != before
            return False

        await wait_until_async(is_known, BACK_S, "the new master to be known")
        await bulk.ban(user_in(0, 1), FOREVER_MS)
        with pytest.raises(StoreUnavailable, match=r"a slot was moved to \S+ during the import") as refused:
            await bulk.flush()
    assert refused.value.outcome == "unknown", "earlier pipelines of it may be in"
    assert await is_banned(store, user_in(0)) and not await is_banned(store, user_in(0, 1))


async def test_a_master_that_is_added_takes_slots_without_a_restart(setup: ClusterSetup, store: Store) -> None:
    follower = await Follower.start(store.changelog)
    async with Writing(store, list(range(16))) as writing:
        await writing.more()
        master = await asyncio.to_thread(setup.add_master)
        for partition in (0, 5, 9):
            await asyncio.to_thread(setup.move_partition, partition, master)
            await writing.more()
    await writing.check(store)
    assert len(await store.client.masters()) == 4
    await follower.read_new()
    assert follower.facts.users == (await snapshot_facts(store.changelog)).users


@pytest.mark.parametrize("setup", ["valkey-9"], indirect=True)
async def test_slots_that_valkey_moves_at_once_cost_no_write(setup: ClusterSetup, store: Store) -> None:
    slot = partition_slot(0)
    source = setup.owner(slot)
    target = next(node for node in setup.masters if node is not source)
    async with Writing(store, [0]) as writing:
        await writing.more()
        await asyncio.to_thread(setup.move_at_once, slot, slot, target)
        await writing.more()
    assert (writing.refused, writing.unknown) == ([], []), writing.problems
    await writing.check(store)


async def test_lists_and_reads_over_all_masters(store: Store) -> None:
    users = [user_in(partition) for partition in range(16)]
    for user in users:
        await store.lists.add(APP, ListKind.BLACKLIST, user, users, FOREVER_MS, 1, 100)
    follower = await snapshot_facts(store.changelog)
    assert len(follower.lists) == 16
    await store.apps.remove(APP, 2)
    assert (await snapshot_facts(store.changelog)).lists == {}


async def test_the_documented_rights_suffice(setup: ClusterSetup) -> None:
    for node in setup.nodes:
        make_user(node)
        node.client.execute_command("ACL", "SETUSER", *documented_words("acl-cluster"))
    url = setup.url.replace("://", f"://gate:{PASSWORD}@")
    store = await Store.connect(url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS, tries_rights=True)
    heard: list[bytes] = []
    async with Subscription(store.client, keys.ASK_CHANNEL, lambda _, message: heard.append(message)) as subscription:
        await subscription.begin()
        await store.client.publish(keys.ASK_CHANNEL, b"ask")
        await wait_until_async(lambda: heard == [b"ask"], BACK_S, "the message")
    await tour(store)
    await store.announcer("n1").renew({})
    assert {right for node in setup.nodes for right in denied(node)} == set()
    await store.aclose()


async def test_a_right_that_one_master_lacks_is_named(setup: ClusterSetup) -> None:
    for node in setup.nodes:
        make_user(node)
        node.client.execute_command("ACL", "SETUSER", *documented_words("acl-cluster"))
    change_user(setup.masters[1], "-zadd", "-asking")
    url = setup.url.replace("://", f"://gate:{PASSWORD}@")
    with pytest.raises(StoreUnavailable) as refused:
        await Store.connect(url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS, tries_rights=True)
    assert "grant it with ACL SETUSER gate +asking +zadd" in str(refused.value)
    change_user(setup.masters[1], "+zadd", "+asking", "-cluster")
    with pytest.raises(StoreUnavailable, match=r"grant it with ACL SETUSER gate \+cluster\|nodes"):
        await Store.connect(url.partition(",")[0].rpartition(":")[0] + f":{setup.masters[1].port}")


@pytest.mark.parametrize("setup", ["redis-7"], indirect=True)
async def test_a_refusal_in_the_middle_is_a_reply_of_its_own(store: Store) -> None:
    await store.client.read(("SET", keys.meta(3), "no hash"))
    replies = await store.client.write_each([Call(scripts.MARK, [keys.meta(p)], [1]) for p in (0, 3)])
    assert isinstance(replies[1], ReplyError) and not isinstance(replies[0], ReplyError)


@pytest.mark.parametrize("setup", ["redis-7"], indirect=True)
async def test_seeds_of_two_clusters_are_refused(setup: ClusterSetup, tmp_path: Path) -> None:
    other = ClusterSetup.start("redis-7", tmp_path / "other", replicas=0)
    try:
        mixed = f"{setup.url},127.0.0.1:{other.masters[0].port}"
        with pytest.raises(StoreUnavailable, match="are servers of two Redis Clusters: name servers of one"):
            await Store.connect(mixed, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    finally:
        other.stop()


@pytest.mark.parametrize("setup", ["redis-7"], indirect=True)
async def test_a_seed_that_joins_another_cluster_leads_nowhere(
    setup: ClusterSetup, store: Store, tmp_path: Path
) -> None:
    other = ClusterSetup.start("redis-7", tmp_path / "other", replicas=0)
    try:
        for master in other.masters:
            master.ask("BUMPEPOCH")  # its claims to the slots are newer
        seed = other.masters[0]
        other_seed = store.client.address.at(seed.host, seed.port)
        assert isinstance(store.client, ClusterClient)
        before = await store.client.masters()
        with pytest.raises(LinkLost, match="is a server of another Redis Cluster now"):
            await store.client.known_masters.ask(other_seed)
        assert await store.client.masters() == before
    finally:
        other.stop()


@pytest.mark.parametrize("setup", ["redis-7"], indirect=True)
async def test_a_slot_without_a_master_is_named_with_a_remedy(setup: ClusterSetup, store: Store) -> None:
    for node in setup.nodes:
        node.client.config_set("cluster-require-full-coverage", "no")
    for node in setup.nodes:
        node.ask("DELSLOTS", partition_slot(1))
    async with asyncio.timeout(BACK_S):
        opened = ClusterClient(store.client.address, PATIENCE_MS, PATIENCE_MS)
        with pytest.raises(StoreUnavailable, match=f"slot {partition_slot(1)}: give it one with redis-cli"):
            await opened.read(("HLEN", keys.meta(1)))
        assert await opened.read(("HLEN", keys.meta(0))) != [0], "other slots are served"
        await opened.aclose()
