from __future__ import annotations

import asyncio
from pathlib import Path

from gate.clock import wall_ms
from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.store.store import Store
from gate.store.sweep import MAX_SWEPT_A_SCRIPT, Sweep
from harness.servers import RedisServer
from tests.store.conftest import APP
from tests.store.following import Follower, snapshot_facts
from tests.store.odd_ids import ODD_IDS

NOW = 1_000
ENDS = 5_000
BLACK, WHITE = ListKind.BLACKLIST, ListKind.WHITELIST


async def filled(store: Store) -> None:
    await store.apps.create(AppFacts(key=APP, secrets=("s",)), NOW)
    for kind in ListKind:
        await store.lists.add(APP, kind, b"o:black-ends:x", ODD_IDS, ENDS, NOW, None)
        await store.lists.add(APP, kind, b"o:black-ends:x", [b"longer"], ENDS + 1, NOW, None)
        await store.lists.add(APP, kind, b"o:black-ends:x", [b"ever"], FOREVER_MS, NOW, None)
    for noun in (store.bans, store.mutes):
        await noun.impose(APP, ODD_IDS, ENDS, NOW, why="why")
        await noun.impose(APP, [b"longer"], ENDS + 1, NOW)


async def test_only_what_has_ended_is_swept(store: Store, follower: Follower) -> None:
    await filled(store)
    await follower.read_new()
    assert await Sweep(store).run(ENDS - 1) == 0
    assert await follower.read_new() == [], "a sweep that finds nothing writes nothing"
    assert await Sweep(store).run(ENDS) == 4 * len(ODD_IDS)
    kinds = {change.kind for change in await follower.read_new()}
    assert kinds == {"ban-lifted", "mute-lifted", "unblocked", "unadmitted"}
    facts = await snapshot_facts(store.changelog)
    assert follower.facts == facts
    assert set(facts.users) == {(APP, b"longer")}
    assert {frozenset(entries) for entries in facts.lists.values()} == {frozenset({b"longer", b"ever"})}
    assert await Sweep(store).run(ENDS) == 0


async def test_a_swept_app_leaves_no_keys_behind(store: Store, follower: Follower) -> None:
    await filled(store)
    await store.lists.remove(APP, BLACK, b"o:black-ends:x", [b"ever"], NOW)
    await store.lists.remove(APP, WHITE, b"o:black-ends:x", [b"ever"], NOW)
    await Sweep(store).run(FOREVER_MS - 1)
    (keys,) = await store.client.read(("KEYS", "gate:*:default*"))
    assert [key for key in keys if b":audit:" not in key] == []  # the audit has its own retention


async def ended_together(store: Store) -> int:
    """More facts of each kind than one script removes."""
    bans, members = MAX_SWEPT_A_SCRIPT * store.partitions * 2, MAX_SWEPT_A_SCRIPT * 3 + 200
    async with store.bulk(APP, NOW) as bulk:
        for number in range(bans):
            await bulk.ban(b"u%d" % number, ENDS)
        await bulk.add(BLACK, b"o", [b"m%d" % number for number in range(members)], ENDS)
        await bulk.flush()
    return bans + members


async def test_one_run_removes_all_that_ended_together(store: Store, follower: Follower) -> None:
    await store.apps.create(AppFacts(key=APP, secrets=("s",)), NOW)
    many = await ended_together(store)
    assert await Sweep(store).run(ENDS) == many
    await follower.read_new()
    assert not follower.facts.users and not follower.facts.lists


async def test_a_run_that_is_to_stop_leaves_the_rest_to_the_next(valkey_store: Store) -> None:
    store = valkey_store
    many = await ended_together(store)
    turns = iter([True] * 6)
    first = await Sweep(store).run(ENDS, lambda: next(turns, False))
    assert 0 < first < many
    assert first + await Sweep(store).run(ENDS) == many


async def test_a_slice_of_the_sweep_holds_up_no_other_command_for_long(
    valkey_store: Store, redis_server: RedisServer
) -> None:
    store = valkey_store
    await ended_together(store)
    sweeping, longest_s = asyncio.ensure_future(Sweep(store).run(ENDS)), 0.0
    while not sweeping.done():
        began_s = processor_s(redis_server)
        await store.ping()
        # What the server itself computes before it answers: other programs on this machine hold it up as well.
        longest_s = max(longest_s, processor_s(redis_server) - began_s)
        await asyncio.sleep(0.001)
    assert longest_s < 0.1


def processor_s(server: RedisServer) -> float:
    """The processor time of the server's main thread, which runs the commands."""
    return int(Path(f"/proc/{server.pid}/schedstat").read_text().split()[0]) / 1e9


async def test_what_the_server_does_not_take_for_over_stays(store: Store) -> None:
    await store.apps.create(AppFacts(key=APP, secrets=("s",)), NOW)
    ends_ms = wall_ms() + 60_000
    await store.bans.impose(APP, [b"ann"], ends_ms, NOW)
    await store.lists.add(APP, BLACK, b"o", [b"bob"], ends_ms, NOW, None)
    assert await store.nonces.spend(APP, "n", ends_ms)
    assert await Sweep(store).run(ends_ms + 1) == 0
    assert await store.bans.count(APP, ends_ms - 1) == 1
    assert await store.lists.contains(APP, BLACK, b"o", [b"bob"], ends_ms - 1) == [True]
    assert not await store.nonces.spend(APP, "n", ends_ms)


async def test_a_sweep_never_undoes_what_is_imposed_meanwhile(store: Store, follower: Follower) -> None:
    await store.apps.create(AppFacts(key=APP, secrets=("s",)), NOW)
    users = [b"u%d" % number for number in range(30)]

    async def impose(round_: int) -> None:
        await store.bans.impose(APP, users, ENDS + 10_000 + round_, ENDS)
        await store.lists.add(APP, BLACK, b"o", users, ENDS + 10_000 + round_, ENDS, None)

    for round_ in range(20):
        await store.bans.impose(APP, users, ENDS, NOW)
        await store.lists.add(APP, BLACK, b"o", users, ENDS, NOW, None)
        await asyncio.gather(Sweep(store).run(ENDS), impose(round_))
        assert await store.bans.count(APP, ENDS) == 30
        assert all(await store.lists.contains(APP, BLACK, b"o", users, ENDS))
    await follower.read_new()
    assert follower.facts == await snapshot_facts(store.changelog)
