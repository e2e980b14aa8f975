from __future__ import annotations

import asyncio

import msgspec
import pytest

from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.errors import AppExists, AppUnknown, InvalidInput
from gate.store.store import Store
from tests.store.following import Follower, snapshot_facts

NOW = 1_000


def app(key: str, **settings: object) -> AppFacts:
    return msgspec.structs.replace(AppFacts(key=key, secrets=("s1", "s2"), name="Ünï"), **settings)


async def test_creating_and_reading(store: Store, follower: Follower) -> None:
    written = await store.apps.create(app("b"), NOW)
    change = await follower.read_one()
    assert (change.kind, change.app, change.at_ms) == ("app-set", "b", NOW)
    assert follower.stands_at(written.revisions)
    await store.apps.create(app("a", list_ceiling=7), NOW)
    await follower.read_new()
    assert await store.apps.get("b") == app("b")
    assert await store.apps.list() == [app("a", list_ceiling=7), app("b")]
    assert follower.facts.apps == (await snapshot_facts(store.changelog)).apps


async def test_an_app_is_created_once(store: Store, follower: Follower) -> None:
    outcomes = await asyncio.gather(
        *(store.apps.create(app("a", name=str(n)), NOW) for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(outcome, AppExists) for outcome in outcomes) == 9
    await follower.read_one()


async def test_an_unknown_app_is_unknown_to_every_call(store: Store, follower: Follower) -> None:
    for asking in (
        store.apps.get("no"),
        store.apps.put(app("no"), NOW),
        store.apps.update("no", lambda facts: facts, NOW),
    ):
        with pytest.raises(AppUnknown):
            await asking
    assert await follower.read_new() == []


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 33, "a:b", "a\n"])
async def test_a_key_that_would_break_key_names_is_refused(valkey_store: Store, key: str) -> None:
    with pytest.raises(InvalidInput):
        await valkey_store.apps.create(app(key), NOW)


async def test_putting_replaces(store: Store, follower: Follower) -> None:
    await store.apps.create(app("a"), NOW)
    await store.apps.put(app("a", list_policy="both"), NOW)
    assert await store.apps.get("a") == app("a", list_policy="both")
    await follower.read_new()
    assert follower.facts.apps == {"a": app("a", list_policy="both")}


async def test_two_operators_do_not_undo_each_other(store: Store) -> None:
    await store.apps.create(app("a", list_ceiling=0), NOW)

    def raise_ceiling(facts: AppFacts) -> AppFacts:
        return msgspec.structs.replace(facts, list_ceiling=facts.list_ceiling + 1)

    await asyncio.gather(*(store.apps.update("a", raise_ceiling, NOW) for _ in range(10)))
    assert (await store.apps.get("a")).list_ceiling == 10


async def test_removing_takes_every_fact_and_no_other_apps(store: Store, follower: Follower) -> None:
    for key in ("a", "b"):
        await store.apps.create(app(key), NOW)
        users = [b"u%d" % number for number in range(50)] + [b"x:a:y", b"a"]
        await store.bans.impose(key, users, FOREVER_MS, NOW)
        await store.mutes.impose(key, users, FOREVER_MS, NOW)
        await store.lists.add(key, ListKind.BLACKLIST, b"x:a:y", users, 5_000, NOW, None)
        await store.lists.add(key, ListKind.WHITELIST, b"x:b:y", users, FOREVER_MS, NOW, None)
    await follower.read_new()
    for _ in range(2):  # the second call finds nothing, and succeeds too
        written = await store.apps.remove("a", NOW)
        change = await follower.read_one()
        assert (change.kind, change.app) == ("app-removed", "a")
        assert follower.stands_at(written.revisions)
    assert follower.facts == await snapshot_facts(store.changelog)
    assert {key for key, _ in follower.facts.users} == {"b"}
    assert await store.bans.count("a", NOW) == await store.mutes.count("a", NOW) == 0
    assert await store.bans.count("b", NOW) == 52
