"""One master of a Cluster stopped, killed or cut off: its slots fail like one server, in time; the others' do not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from gate.core.model import FOREVER_MS, AppFacts
from gate.errors import StoreUnavailable
from gate.store import keys, scripts
from gate.store.address import parse_address
from gate.store.cluster import client_of
from gate.store.link import Reply, ReplyError
from gate.store.scripts import Call
from gate.store.store import Store
from gate.store.subscription import Subscription
from gate.store.topology import slot_of
from harness.cluster_node import ClusterNode
from harness.clusters import ClusterSetup
from harness.waiting import TIMER_EARLY_S, wait_until_async
from tests.store.conftest import APP
from tests.store.test_cluster import user_in

DEADLINE_MS = 700
AT_ONCE_S = 3.0
BACK_S = 20.0
NEVER_MS = 60_000
"""There is no replica to elect; and a master that hangs for a moment must not count as dead."""


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSetup]:
    setup = ClusterSetup.start(
        "valkey-9",
        tmp_path_factory.mktemp("cluster"),
        replicas=0,
        node_timeout_ms=NEVER_MS,
        extra=["--cluster-require-full-coverage", "no"],
    )
    yield setup
    setup.stop()


@pytest.fixture
async def store(setup: ClusterSetup) -> AsyncIterator[Store]:
    setup.empty()
    opened = await Store.connect(setup.url, deadline_ms=DEADLINE_MS, connect_ms=DEADLINE_MS)
    await opened.changelog.prepare()
    await opened.apps.create(AppFacts(key=APP, secrets=("s",)), 1)
    yield opened
    await opened.aclose()


async def ban(store: Store, *partitions: int) -> None:
    await store.bans.impose(APP, [user_in(partition) for partition in partitions], FOREVER_MS, 1)


async def refusal_of(store: Store, *partitions: int) -> tuple[str, float]:
    begun_s = time.monotonic()
    with pytest.raises(StoreUnavailable) as refused:
        await ban(store, *partitions)
    return refused.value.outcome, time.monotonic() - begun_s


async def is_back(store: Store, partition: int) -> bool:
    try:
        await ban(store, partition)
    except StoreUnavailable:
        return False
    return True


def other_than(setup: ClusterSetup, master: ClusterNode) -> list[int]:
    return [partition for partition in range(16) if setup.owner_of(partition) is not master]


async def test_a_master_that_hangs_costs_one_deadline_and_only_its_slots(setup: ClusterSetup, store: Store) -> None:
    master = setup.owner_of(3)
    others = other_than(setup, master)
    await ban(store, 3, *others)
    with master.paused():
        outcome, took_s = await refusal_of(store, 3)
        assert outcome == "unknown" and took_s >= DEADLINE_MS / 1_000 - TIMER_EARLY_S
        for _ in range(20):
            outcome, took_s = await refusal_of(store, 3)
            assert (outcome, took_s < AT_ONCE_S) == ("not-written", True)
        for partition in others:
            await ban(store, partition)
    await wait_until_async(lambda: is_back(store, 3), BACK_S, "the master to be back")


async def test_callers_in_flight_fail_together_and_others_do_not(setup: ClusterSetup, store: Store) -> None:
    master = setup.owner_of(3)
    others = other_than(setup, master)
    with master.paused():
        begun_s = time.monotonic()
        calls = [*(ban(store, 3) for _ in range(200)), *(ban(store, others[n % len(others)]) for n in range(50))]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - begun_s < DEADLINE_MS / 1_000 + 5, "one deadline for all, not one for each"
    assert {type(outcome) for outcome in outcomes[:200]} == {StoreUnavailable}
    assert set(outcomes[200:]) == {None}
    await wait_until_async(lambda: is_back(store, 3), BACK_S, "the master to be back")


async def test_a_write_that_spans_masters_keeps_its_outcome_words(setup: ClusterSetup, store: Store) -> None:
    master = setup.owner_of(3)
    other = other_than(setup, master)[0]
    with master.paused():
        await refusal_of(store, 3)
        calls = [Call(scripts.MARK, [keys.meta(partition)], [7]) for partition in (3, other)]
        with pytest.raises(StoreUnavailable) as refused:
            await store.client.write(calls)
        assert refused.value.outcome == "unknown", "a part of it is written"
        with pytest.raises(StoreUnavailable) as refused:
            await store.client.write(calls[:1])
        assert refused.value.outcome == "not-written"
    assert await store.client.read(("HGET", keys.meta(other), "mark")) == [b"7"]
    await wait_until_async(lambda: is_back(store, 3), BACK_S, "the master to be back")


async def test_only_the_calls_of_a_master_that_is_away_are_refused(setup: ClusterSetup, store: Store) -> None:
    master = setup.owner_of(3)
    others = other_than(setup, master)
    of_it = [partition for partition in range(16) if partition not in others]

    async def mark(*partitions: int) -> list[Reply]:
        return await store.client.write_each([Call(scripts.MARK, [keys.meta(p)], [9]) for p in partitions])

    await ban(store, *range(16))
    with master.paused():
        for expected in ("unknown", "not-written"):  # it was in flight; then the master is known to be away
            with pytest.raises(StoreUnavailable) as refused:
                await mark(*of_it[:2])
            assert refused.value.outcome == expected
        assert store.client.is_partly_away
        away, here = await mark(of_it[0], others[0])
        assert isinstance(away, ReplyError) and str(away).startswith("MASTERDOWN ")
        assert not isinstance(here, ReplyError)
        for whole in (store.changelog.heads, partial(facts_of, store)):
            with pytest.raises(StoreUnavailable):
                await whole()
    await wait_until_async(lambda: is_back(store, 3), BACK_S, "the master to be back")
    assert not store.client.is_partly_away


async def facts_of(store: Store) -> None:
    async for _ in store.snapshot():
        pass


async def test_a_cluster_that_was_away_at_first_is_found(setup: ClusterSetup) -> None:
    client = client_of(parse_address(setup.url), DEADLINE_MS, DEADLINE_MS)
    with contextlib.ExitStack() as paused:
        for master in setup.masters:
            paused.enter_context(master.paused())
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="returned the slots"):
                await client.read(("PING",))
        assert client.problem

    async def is_found() -> bool:
        with contextlib.suppress(StoreUnavailable):
            return await client.read(("PING",)) == [b"PONG"]
        return False

    await wait_until_async(is_found, BACK_S, "the masters to be found without another client")
    assert (client.problem, len(await client.masters())) == ("", 3)
    await client.aclose()


async def test_without_any_master_nothing_is_read_or_written(setup: ClusterSetup, store: Store) -> None:
    heads = await store.changelog.heads()
    with contextlib.ExitStack() as paused:
        for master in setup.masters:
            paused.enter_context(master.paused())
        for _ in range(2):
            assert (await refusal_of(store, *range(16)))[1] < AT_ONCE_S
        assert not store.client.is_partly_away, "all of it is"

        async def is_cut_off() -> bool:
            try:
                assert await store.changelog.read(heads, 10) == {}
            except StoreUnavailable:
                return True
            return False

        await wait_until_async(is_cut_off, BACK_S, "the Changelogs of no master to be read")
    for partition in range(16):
        await wait_until_async(partial(is_back, store, partition), BACK_S, "the masters to be back")


async def test_a_master_that_was_killed_is_noticed_at_once(setup: ClusterSetup, store: Store) -> None:
    master = setup.owner_of(3)
    others = other_than(setup, master)
    await ban(store, 3)
    master.kill()
    try:
        _, took_s = await refusal_of(store, 3)
        assert took_s < AT_ONCE_S
        assert (await refusal_of(store, 3))[0] == "not-written"
        await ban(store, *others)
    finally:
        master.launch()
    await wait_until_async(lambda: is_back(store, 3), BACK_S, "the master to be back")


async def test_changes_of_the_other_masters_are_read_on(setup: ClusterSetup, store: Store) -> None:
    master = setup.owner_of(3)
    other = next(p for p in other_than(setup, master) if p and setup.owner_of(p) is not setup.owner_of(0))
    heads = await store.changelog.heads()
    await store.changelog.read(heads, 10)
    with master.paused():
        await ban(store, other)

        async def is_read() -> bool:
            return other in await store.changelog.read(heads, 100)

        await wait_until_async(is_read, BACK_S, "a Change of another master")
    await wait_until_async(lambda: is_back(store, 3), BACK_S, "the master to be back")


async def test_a_connection_that_was_closed_is_opened_again(setup: ClusterSetup, store: Store) -> None:
    await ban(store, *range(16))
    for master in setup.masters:
        master.client.execute_command("CLIENT KILL TYPE normal SKIPME yes")

    async def is_closed() -> bool:
        return not any(one.server_id for one in await store.client.masters())

    await wait_until_async(is_closed, BACK_S, "the connections to be closed")
    await ban(store, *range(16))


async def test_a_channel_is_heard_again_after_its_master_died(setup: ClusterSetup, store: Store) -> None:
    heard: list[bytes] = []
    again: list[bool] = []

    async def on_again() -> None:
        again.append(True)

    async with Subscription(
        store.client, keys.ASK_CHANNEL, lambda _, message: heard.append(message), on_again
    ) as subscription:
        await subscription.begin()
        keeping = asyncio.create_task(subscription.keep())
        await store.client.publish(keys.ASK_CHANNEL, b"1")
        await wait_until_async(lambda: heard == [b"1"], BACK_S, "the first message")
        master = setup.owner(slot_of(keys.ASK_CHANNEL))
        master.kill()
        master.launch()
        await wait_until_async(lambda: again, BACK_S, "the subscription to be there again")

        async def is_heard() -> bool:
            try:
                await store.client.publish(keys.ASK_CHANNEL, b"2")
            except StoreUnavailable:
                return False
            return b"2" in heard

        await wait_until_async(is_heard, BACK_S, "a message after that")
        keeping.cancel()
