"""Registration and deletion in the store: exact under a limit, all or nothing, and the same for every follower."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gate.clock import wall_ms
from gate.core.model import FOREVER_MS, AppFacts, ListKind, UserFacts
from gate.errors import UserDeactivated, UserLimitReached, UserUnknown
from gate.store import keys
from gate.store.store import Store
from gate.store.users import Profile, Registration
from tests.store.conftest import APP
from tests.store.following import Follower, snapshot_facts
from tests.store.odd_ids import ODD_IDS

NOW = 1_700_000_000_000
FACTS = AppFacts(key=APP, secrets=("s",), user_limit=3)
PRODUCTION = msgspec.structs.replace(FACTS, environment="production")


async def registered(store: Store, user: bytes) -> bool:
    return (await store.users.facts(APP, [user]))[0].registered


async def test_a_second_enrolment_writes_nothing(store: Store, follower: Follower) -> None:
    assert await store.users.enrol(FACTS, b"ann", NOW, "Ann", None) is not None
    assert (await follower.read_one()).kind == "user-registered"
    for name in (None, "Ann", "Bea"):
        assert await store.users.enrol(FACTS, b"ann", NOW + 5, name, None) is None
    assert await store.users.profiles(APP, [b"ann", b"bob"]) == [Profile(b"ann", NOW, "Bea", ""), None]
    assert follower.facts.users == (await snapshot_facts(store.changelog)).users


async def test_registering_again_answers_with_a_revision_to_wait_for(store: Store) -> None:
    first = await store.users.register(APP, [b"ann"], NOW)
    assert (await store.users.register(APP, [b"ann"], NOW)).revisions == first.revisions


@pytest.mark.parametrize("user", ODD_IDS)
async def test_any_id_has_a_profile(store: Store, user: bytes) -> None:
    for name, portrait in (("", "="), ("=x", ""), ("安\0\r\n", "p")):
        await store.users.register_all(APP, [Registration(user, NOW, name, portrait)], NOW)
        assert await store.users.profiles(APP, [user]) == [Profile(user, NOW, name, portrait)]


async def test_the_limit_is_exact_under_concurrency(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(store.users.enrol(FACTS, b"u%d" % number, NOW) for number in range(200)), return_exceptions=True
    )
    assert sum(isinstance(one, UserLimitReached) for one in outcomes) == 197
    assert sum(not isinstance(one, BaseException) for one in outcomes) == 3
    assert await store.users.count(APP) == 3


async def test_users_of_unlimited_times_count(store: Store) -> None:
    for user in (b"a", b"b"):
        await store.users.enrol(PRODUCTION, user, NOW)
    outcomes = await asyncio.gather(
        *(store.users.enrol(FACTS, b"u%d" % number, NOW) for number in range(50)), return_exceptions=True
    )
    assert sum(isinstance(one, UserLimitReached) for one in outcomes) == 49
    assert await store.users.count(APP) == 3


async def test_a_crash_between_place_and_registration_is_healed_by_the_same_call(store: Store) -> None:
    await store.users.quota.reserve(FACTS, b"ann", NOW)
    for user in (b"b", b"c"):
        await store.users.enrol(FACTS, user, NOW)
    with pytest.raises(UserLimitReached):
        await store.users.enrol(FACTS, b"d", NOW)
    await store.users.enrol(FACTS, b"ann", NOW)
    assert await registered(store, b"ann")


async def test_an_unused_place_goes_to_a_later_user(store: Store) -> None:
    for user in (b"lost-1", b"lost-2", b"lost-3"):
        await store.users.quota.reserve(FACTS, user, NOW)
    with pytest.raises(UserLimitReached):
        await store.users.enrol(FACTS, b"ann", NOW + 30_000)
    for user in (b"a", b"b", b"c"):
        await store.users.enrol(FACTS, user, NOW + 61_000)
    with pytest.raises(UserLimitReached):
        await store.users.enrol(FACTS, b"d", NOW + 200_000)
    assert await store.users.count(APP) == 3


@pytest.mark.parametrize("by_ms, asker_ms", [(0, 600_000), (-600_000, 0)], ids=["fast-asker", "slow-reserver"])
async def test_no_wrong_clock_frees_a_place_under_way(store: Store, by_ms: int, asker_ms: int) -> None:
    entry = f"run-1 1 3000 {by_ms}"  # as the reserving node's replicator notes its clock
    await store.client.read(("HSET", keys.NODES, "node/reserver", entry))
    now_ms = wall_ms()
    for user in (b"a", b"b", b"c"):
        await store.users.quota.reserve(FACTS, user, now_ms + by_ms)
    with pytest.raises(UserLimitReached):
        await store.users.enrol(FACTS, b"ann", now_ms + asker_ms)
    await store.client.read(("DEL", keys.NODES))


async def test_a_limit_of_none_refuses_everybody(store: Store) -> None:
    with pytest.raises(UserLimitReached):
        await store.users.enrol(msgspec.structs.replace(FACTS, user_limit=0), b"ann", NOW)


async def test_deleting_is_said_as_it_is_done(store: Store, follower: Follower) -> None:
    users = [b"ann", b"bob"]
    for user in users:
        await store.users.enrol(FACTS, user, NOW, "Name", "Portrait")
    await store.bans.impose(APP, users, FOREVER_MS, NOW)
    await store.mutes.impose(APP, users, FOREVER_MS, NOW)
    for kind in ListKind:
        await store.lists.add(APP, kind, b"ann", [b"x", b"bob"], FOREVER_MS, NOW, None)
        await store.lists.add(APP, kind, b"ann", [b"y"], NOW + 5_000, NOW, None)
        await store.lists.add(APP, kind, b"carl", [b"ann"], FOREVER_MS, NOW, None)
    await store.users.erase(APP, [*users, b"stranger"], NOW + 7)
    await follower.read_new()
    stands = UserFacts(tokens_valid_from_ms=NOW + 8)
    facts = follower.facts
    assert {user: one for (_, user), one in facts.users.items()} == {b"ann": stands, b"bob": stands}
    assert {owner for _, _, owner in facts.lists} == {b"carl"}
    assert facts == await snapshot_facts(store.changelog)
    assert (await store.users.count(APP), await store.bans.count(APP, NOW), await store.mutes.count(APP, NOW)) == (
        0,
    ) * 3
    assert await store.client.read(("ZCARD", keys.quota(APP))) == [0]
    again = await store.users.enrol_for_token(FACTS, b"ann", NOW + 7)
    assert again.mint_at_ms == NOW + 8
    assert await store.users.profiles(APP, [b"ann"]) == [Profile(b"ann", NOW + 7, "", "")]


async def test_a_deactivated_user_is_neither_registered_nor_changed_nor_deleted(store: Store) -> None:
    await store.users.enrol(FACTS, b"ann", NOW, "Ann")
    await store.deactivation.deactivate(APP, [b"ann"], NOW)
    for refused in (
        store.users.enrol(FACTS, b"ann", NOW, "Bea"),
        store.users.register(APP, [b"ann"], NOW),
        store.users.refresh(APP, b"ann", "Bea", None),
        store.users.erase(APP, [b"ann"], NOW),
    ):
        with pytest.raises(UserDeactivated):
            await refused
    assert await store.users.profiles(APP, [b"ann"]) == [Profile(b"ann", NOW, "Ann", "")]


async def test_an_unknown_user_has_no_profile_to_change(store: Store) -> None:
    with pytest.raises(UserUnknown):
        await store.users.refresh(APP, b"stranger", "N", None)
    assert await store.users.profiles(APP, [b"stranger"]) == [None]


async def test_the_later_revocation_stands_whichever_comes_first(store: Store, follower: Follower) -> None:
    for before_ms, stands in ((NOW, NOW), (NOW - 5, NOW), (NOW + 5, NOW + 5)):
        await store.users.revoke_tokens(APP, [b"ann"], before_ms, NOW)
        assert (await follower.read_one()).value == b"%d" % stands
        assert await store.users.facts(APP, [b"ann"]) == [UserFacts(tokens_valid_from_ms=stands)]


async def test_removing_an_app_leaves_no_roll_and_no_quota(store: Store) -> None:
    await store.apps.create(FACTS, NOW)
    await store.users.enrol(FACTS, b"ann", NOW)
    await store.apps.remove(APP, NOW)
    assert await store.users.count(APP) == 0
    assert await store.client.read(("EXISTS", keys.quota(APP))) == [0]
