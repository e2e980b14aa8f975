from __future__ import annotations

import random
from collections import Counter

import pytest

from gate.core.model import FOREVER_MS, ListKind, UserFacts
from gate.errors import InvalidInput, StoreUnavailable
from gate.store import bulk as bulk_module
from gate.store.bulk import FACTS_A_SCRIPT, FullList
from gate.store.store import Store
from harness.seeds import seed
from harness.servers import RedisServer
from tests.store.conftest import APP
from tests.store.following import Facts, Follower, snapshot_facts
from tests.store.odd_ids import ODD_IDS

SEED = seed(7)

NOW = 1_000
BLACK, WHITE = ListKind.BLACKLIST, ListKind.WHITELIST


async def test_everything_that_was_given_is_in(store: Store, follower: Follower) -> None:
    meant, given = Facts(), 0
    choice = random.Random(SEED)
    users = [*ODD_IDS, *(b"u%d" % number for number in range(3_000))]
    async with store.bulk(APP, NOW) as bulk:
        for user in users:
            end = choice.choice([5_000, FOREVER_MS])
            await bulk.ban(user, end, why="why")
            await bulk.mute(user, end)
            await bulk.register(user)
            await bulk.switch(user, True)
            meant.set_user(APP, user, banned_until_ms=end, muted_until_ms=end, registered=True, whitelist_on=True)
            members = choice.sample(users, choice.randint(1, 20))
            await bulk.add(BLACK, user, members, end)
            meant.put_entries(APP, BLACK, user, dict.fromkeys(members, end))
            given += 4 + len(members)
        result = await bulk.flush()
    assert result.facts == given
    assert result.full == []
    await follower.read_new()
    assert follower.facts == await snapshot_facts(store.changelog) == meant
    assert follower.stands_at(result.written.revisions)
    assert [revision.partition for revision in result.written.revisions] == list(range(store.partitions))
    assert (await store.bans.page(APP, NOW, 0, 1))[0].why == "why"


async def test_the_last_word_about_a_thing_holds(store: Store, follower: Follower) -> None:
    async with store.bulk(APP, NOW) as bulk:
        for end in (5_000, 9_000):
            await bulk.ban(b"ann", end)
            await bulk.add(WHITE, b"ann", [b"bob"], end)
        for on in (True, False, True, False):
            await bulk.switch(b"ann", on)
        await bulk.flush()
    assert await store.users.facts(APP, [b"ann"]) == [UserFacts(banned_until_ms=9_000, whitelist_size=1)]
    assert await store.lists.page(APP, WHITE, b"ann", NOW, None, 5) == ([(b"bob", 9_000)], None)


async def test_switches_of_many_users_keep_their_order(
    store: Store, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A User may be switched again after the script with the first switch was emitted."""
    monkeypatch.setattr(bulk_module, "FACTS_A_SCRIPT", 3)
    users = [b"u%d" % number for number in range(100)]
    async with store.bulk(APP, NOW) as bulk:
        for user in users:
            await bulk.switch(user, True)
        for user in users[::2]:
            await bulk.switch(user, False)
        await bulk.flush()
    await follower.read_new()
    on = {user for (_, user), facts in follower.facts.users.items() if facts.whitelist_on}
    assert on == set(users[1::2])
    assert follower.facts == await snapshot_facts(store.changelog)


async def test_a_second_run_changes_no_fact(store: Store, follower: Follower) -> None:
    snapshots = []
    for _ in range(2):
        async with store.bulk(APP, NOW) as bulk:
            for number in range(500):
                await bulk.add(BLACK, b"o%d" % (number % 50), [b"m%d" % number], 5_000)
                await bulk.ban(b"o%d" % number, 5_000)
            await bulk.flush()
        await follower.read_new()
        snapshots.append(await snapshot_facts(store.changelog))
        assert follower.facts == snapshots[-1]
    assert snapshots[0] == snapshots[1]


async def test_a_long_list_is_split_into_bounded_scripts(store: Store, follower: Follower) -> None:
    members = [b"m%d" % number for number in range(FACTS_A_SCRIPT * 3 + 7)]
    async with store.bulk(APP, NOW) as bulk:
        await bulk.add(BLACK, b"o", members)
        await bulk.flush()
    changes = await follower.read_new()
    assert [member for change in changes for member in change.members] == members
    # The ids of one script's Changes share their first 12 digits.
    per_script = Counter(change.write_id[:12] for change in changes)
    assert max(per_script.values()) * 100 <= FACTS_A_SCRIPT + 100


async def test_full_lists_are_named_and_the_others_filled(store: Store, follower: Follower) -> None:
    async with store.bulk(APP, NOW, ceiling=10) as bulk:
        for number in range(100):
            await bulk.add(WHITE, b"o%d" % number, [b"m%d" % n for n in range(11 if number % 50 == 3 else 10)])
        result = await bulk.flush()
    assert sorted(result.full) == [FullList(WHITE, b"o3", 0, 11), FullList(WHITE, b"o53", 0, 11)]
    await follower.read_new()
    assert Counter(map(len, follower.facts.lists.values())) == {10: 98}


async def test_deactivated_users_may_be_loaded_with_a_ban(store: Store) -> None:
    await store.deactivation.deactivate(APP, [b"ann"], NOW)
    async with store.bulk(APP, NOW) as bulk:
        await bulk.ban(b"ann", 5_000)
        await bulk.flush()
    assert await store.bans.count(APP, NOW) == 1


async def test_a_flush_without_facts_is_fine(store: Store) -> None:
    async with store.bulk(APP, NOW) as bulk:
        result = await bulk.flush()
    assert (result.facts, result.written.revisions, result.full) == (0, (), [])


async def test_what_was_not_flushed_may_be_dropped(store: Store, follower: Follower) -> None:
    async with store.bulk(APP, NOW) as bulk:
        await bulk.ban(b"ann", 5_000)
    assert await follower.read_new() == []


async def test_an_impossible_end_is_refused(valkey_store: Store) -> None:
    async with valkey_store.bulk(APP, NOW) as bulk:
        await bulk.ban(b"ann", FOREVER_MS + 1)
        with pytest.raises(InvalidInput):
            await bulk.flush()


async def test_a_server_that_dies_is_an_outage_and_running_again_heals(private_redis: RedisServer) -> None:
    store = await Store.connect(private_redis.url)
    with pytest.raises(StoreUnavailable) as refused:
        async with store.bulk(APP, NOW) as bulk:
            for number in range(200_000):
                await bulk.ban(b"u%d" % number, 5_000)
                if number == 20_000:
                    private_redis.kill()
            await bulk.flush()
    assert refused.value.outcome in ("unknown", "not-written")
    await store.aclose()
