from __future__ import annotations

import asyncio

from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.store.store import Store
from gate.store.sweep import MAX_SWEPT_A_SCRIPT, Sweep
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
    assert [key for key in keys if b":audit:" not in key] == []  # the audit has days of its own


async def test_a_round_is_bounded_and_the_next_goes_on(store: Store, follower: Follower) -> None:
    await store.apps.create(AppFacts(key=APP, secrets=("s",)), NOW)
    async with store.bulk(APP, NOW) as bulk:
        for number in range(MAX_SWEPT_A_SCRIPT * store.partitions * 2):
            await bulk.ban(b"u%d" % number, ENDS)
        await bulk.add(BLACK, b"o", [b"m%d" % number for number in range(MAX_SWEPT_A_SCRIPT + 200)], ENDS)
        await bulk.flush()
    sweep, rounds = Sweep(store), []
    while swept := await sweep.run(ENDS):
        rounds.append(swept)
    assert len(rounds) > 1
    assert max(rounds) <= MAX_SWEPT_A_SCRIPT * (store.partitions + 1)
    assert sum(rounds) == MAX_SWEPT_A_SCRIPT * store.partitions * 2 + MAX_SWEPT_A_SCRIPT + 200
    await follower.read_new()
    assert follower.facts.users == follower.facts.lists == {}


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
