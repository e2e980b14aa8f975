"""The intended effect of the operations, the sum of the Changes, and the snapshot are the same facts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gate.core.model import FOREVER_MS, AppFacts, ListKind, UserFacts
from gate.core.snapshot import AppPart, ListPart
from gate.errors import ListFull
from gate.store.lists import Group
from gate.store.store import Store
from gate.store.users import Registration
from harness.seeds import examples
from tests.store.conftest import APP
from tests.store.following import Facts, Follower, snapshot_facts
from tests.store.odd_ids import ODD_IDS

CEILING = 6
USERS = st.sampled_from(ODD_IDS[:6])
SOME_USERS = st.lists(USERS, min_size=1, max_size=4)
ENDS = st.one_of(st.integers(1, 40), st.just(FOREVER_MS))
KINDS = st.sampled_from(ListKind)
APPS = st.sampled_from([APP, "other"])

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("ban"), APPS, SOME_USERS, ENDS),
        st.tuples(st.just("unban"), APPS, SOME_USERS),
        st.tuples(st.just("mute"), APPS, SOME_USERS, ENDS),
        st.tuples(st.just("unmute"), APPS, SOME_USERS),
        st.tuples(st.just("add"), APPS, KINDS, USERS, SOME_USERS, ENDS),
        st.tuples(st.just("remove"), APPS, KINDS, USERS, SOME_USERS),
        st.tuples(st.just("switch"), APPS, SOME_USERS, st.booleans()),
        st.tuples(st.just("register"), APPS, SOME_USERS),
        st.tuples(st.just("deactivate"), APPS, SOME_USERS),
        st.tuples(st.just("reactivate"), APPS, SOME_USERS),
        st.tuples(st.just("revoke"), APPS, SOME_USERS, st.integers(1, 40)),
    ),
    max_size=30,
)


async def perform(store: Store, operation: tuple[Any, ...], now_ms: int) -> None:
    match operation:
        case ("ban", app, users, end):
            await store.bans.impose(app, users, end, now_ms, refuse_deactivated=False)
        case ("unban", app, users):
            await store.bans.lift(app, users, now_ms)
        case ("mute", app, users, end):
            await store.mutes.impose(app, users, end, now_ms, refuse_deactivated=False)
        case ("unmute", app, users):
            await store.mutes.lift(app, users, now_ms)
        case ("add", app, kind, owner, members, end):
            await store.lists.add(app, kind, owner, members, end, now_ms, CEILING)
        case ("remove", app, kind, owner, members):
            await store.lists.remove(app, kind, owner, members, now_ms)
        case ("switch", app, users, on):
            await store.lists.switch(app, users, on, now_ms)
        case ("revoke", app, users, before_ms):
            await store.users.revoke_tokens(app, users, before_ms, now_ms)
        case ("register", app, users):
            some = [Registration(user, now_ms) for user in users]
            await store.users.register_all(app, some, now_ms, refuse_deactivated=False)
        case ("deactivate", app, users):
            await store.deactivation.deactivate(app, users, now_ms)
        case ("reactivate", app, users):
            for job in await store.jobs.claim(now_ms):
                await store.jobs.run(job, now_ms)
            await store.deactivation.reactivate(app, users, now_ms, 0)
        case other:
            raise AssertionError(f"no step performs {other}")


def expect(facts: Facts, operation: tuple[Any, ...], now_ms: int) -> bool:
    """Apply the intended effect of the operation; False if it must be refused."""
    if operation[0] == "add":
        return expect_added(facts, operation, now_ms)
    if operation[0] == "remove":
        _, app, kind, owner, members = operation
        facts.drop_entries(app, kind, owner, members)
        return True
    if operation[0] in ("deactivate", "reactivate"):
        expect_gone_or_back(facts, operation, now_ms)
        return True
    verb, app, users, *value = operation
    changed = {
        "ban": ("banned_until_ms", *value),
        "unban": ("banned_until_ms", 0),
        "mute": ("muted_until_ms", *value),
        "unmute": ("muted_until_ms", 0),
        "switch": ("whitelist_on", *value),
        "register": ("registered", True),
        "revoke": ("tokens_valid_from_ms", *value),
    }[verb]
    for user in users:
        field, new = changed
        if field == "tokens_valid_from_ms":  # a revocation is permanent
            new = max(new, facts.users.get((app, user), UserFacts()).tokens_valid_from_ms)
        facts.set_user(app, user, **{field: new})
    return True


def expect_gone_or_back(facts: Facts, operation: tuple[Any, ...], now_ms: int) -> None:
    """A User's facts are erased once, after its deactivation; its id may return later, without its Tokens."""
    verb, app, users = operation
    was_gone = {user for user in users if facts.users.get((app, user), UserFacts()).deactivated}
    if verb == "deactivate":
        facts.erasing |= {(app, user) for user in users if user not in was_gone}
        for user in users:
            facts.set_user(app, user, deactivated=True)
        return
    for of_app, user in facts.erasing:
        facts.erase(of_app, user, b"dr" if facts.users[of_app, user].registered else b"d")
    facts.erasing.clear()
    for user in was_gone:
        valid_from_ms = max(now_ms + 1, facts.valid_from_ms.pop((app, user), 0))
        facts.set_user(app, user, deactivated=False, registered=False, tokens_valid_from_ms=valid_from_ms)


def expect_added(facts: Facts, operation: tuple[Any, ...], now_ms: int) -> bool:
    _, app, kind, owner, members, end = operation
    entries = facts.lists.get((app, kind, owner), {})
    living = {member for member, until_ms in entries.items() if until_ms > now_ms}
    if set(members) - living and len(living | set(members)) > CEILING:
        return False
    facts.put_entries(app, kind, owner, dict.fromkeys(members, end))
    return True


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
async def test_operations_changes_and_snapshot_agree(valkey_store: Store, operations: list[tuple[Any, ...]]) -> None:
    await valkey_store.client.read(("FLUSHALL",))
    follower = await Follower.start(valkey_store.changelog)
    meant = Facts()
    for key in (APP, "other"):
        meant.apps[key] = AppFacts(key=key, secrets=("s",))
        await valkey_store.apps.create(meant.apps[key], 1)
    for now_ms, operation in enumerate(operations, start=1):
        if expect(meant, operation, now_ms):
            await perform(valkey_store, operation, now_ms)
        else:
            with pytest.raises(ListFull):
                await perform(valkey_store, operation, now_ms)
    await follower.read_new()
    assert follower.facts == meant
    assert await snapshot_facts(valkey_store.changelog) == meant


async def test_apps_come_first_and_every_fact_once_or_more(store: Store, follower: Follower) -> None:
    async with store.bulk(APP, 1) as bulk:
        for number in range(5_000):
            await bulk.ban(b"u%d" % number, 5_000)
            await bulk.add(ListKind.BLACKLIST, b"u%d" % number, [b"a", b"b"], 9_000 if number % 2 else FOREVER_MS)
        await bulk.flush()
    await store.apps.create(AppFacts(key=APP, secrets=("s",)), 1)
    batches = [batch async for batch in store.snapshot()]
    assert [type(part) for part in batches[0]] == [AppPart]
    assert not any(isinstance(part, AppPart) for batch in batches[1:] for part in batch)
    assert max(sum(len(p.members) for p in batch if isinstance(p, ListPart)) for batch in batches) < 10_000
    await follower.read_new()
    assert await snapshot_facts(store.changelog) == follower.facts


async def test_changes_during_a_snapshot_are_settled_by_the_changelog(valkey_store: Store) -> None:
    store = valkey_store
    async with store.bulk(APP, 1) as bulk:
        for number in range(8_000):
            await bulk.add(ListKind.BLACKLIST, b"o%d" % number, [b"a", b"b", b"c"])
        await bulk.flush()
    follower = await Follower.start(store.changelog)  # the heads, before the snapshot
    number = 0
    async for batch in store.snapshot():
        for part in batch:
            follower.facts.load(part)
        groups = [Group(b"o%d" % ((number * 997 + n) % 9_000), [b"x%d" % number, b"a"], 9_000) for n in range(40)]
        await store.lists.add_many(APP, ListKind.BLACKLIST, groups, 2, None)
        await store.lists.remove(APP, ListKind.BLACKLIST, b"o%d" % (number * 31 % 8_000), [b"a", b"b", b"c"], 2)
        await store.bans.impose(APP, [b"o%d" % (number % 50)], 5_000 + number, 2)
        number += 1
    await follower.read_new()
    assert number > 5
    assert follower.facts == await snapshot_facts(store.changelog)


async def test_an_empty_server_has_an_empty_snapshot(store: Store) -> None:
    assert await snapshot_facts(store.changelog) == Facts()


async def test_keys_of_others_in_the_same_server_are_passed_over(valkey_store: Store) -> None:
    foreign = [b"gate:{1}:user:a:", b"gate:{x}:user:a:b", b"gate:{1}:green:a:b", b"mine:{1}:user:a:b"]
    for key in foreign:
        await valkey_store.client.read(("SET", key, "1"))
    assert (await snapshot_facts(valkey_store.changelog)).users == {}
    await valkey_store.client.read(("DEL", *foreign))
