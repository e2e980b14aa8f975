"""The proof of an erasure finds every place in Redis that holds the id, for that App alone, in bounded steps."""

from __future__ import annotations

import pytest

from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.store import occurrences as module
from gate.store.occurrences import occurrences
from gate.store.store import Store
from gate.store.users import Registration
from harness.servers import RedisServer

KEY = "shop"
NOW = 1_000
ANN = b"ann"


@pytest.fixture
async def shop(valkey_store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """`ann` is in every place of one App. Another App has a User of that id, and this one a User with a part of it."""
    monkeypatch.setattr(module, "STREAM_STEP", 2)
    monkeypatch.setattr(module, "SCAN_COUNT", 3)
    await valkey_store.apps.create(AppFacts(key=KEY, secrets=("s",), exempt=frozenset({"ann"})), NOW)
    for app, user in ((KEY, ANN), ("default", ANN), (KEY, b"an")):
        await valkey_store.users.register_all(app, [Registration(user, NOW, "Name", "")], NOW, refuse_deactivated=False)
        await valkey_store.bans.impose(app, [user], FOREVER_MS, NOW)
        await valkey_store.mutes.impose(app, [user], FOREVER_MS, NOW)
        for kind in ListKind:
            await valkey_store.lists.add(app, kind, user, [b"x"], 5_000, NOW, 10)
            await valkey_store.lists.add(app, kind, b"owner", [user], 5_000, NOW, 10)
    return valkey_store


async def found(store: Store, user: bytes = ANN) -> dict[str, tuple[int, bool]]:
    return {one.place: (one.times, one.is_documented) for one in await occurrences(store.client, KEY, user)}


OF_A_USER = {
    "its own record: facts b, i, m, n, r",
    "its own black list",
    "its own black-ends list",
    "its own white list",
    "its own white-ends list",
    "the set of bans",
    "the set of mutes",
    "the set of users",
    "the App's exempt senders",
}
KEPT = {
    "its own record: that it is out of use, since when Tokens are valid": 1,
    "blacklists of others": 1,
    "whitelists of others": 1,
    "the Changelog, until it is trimmed": 7,
    "the audit": 6,
}


async def test_every_place_is_found_and_no_other_app_s(shop: Store) -> None:
    assert await found(shop) == dict.fromkeys(OF_A_USER, (1, False)) | {
        place: (times, True) for place, times in KEPT.items()
    }


async def test_an_erasure_that_is_not_done_is_found(shop: Store) -> None:
    await shop.deactivation.deactivate(KEY, [ANN], NOW)
    places = await found(shop)
    assert places["the jobs: its erasure is not done"] == (1, False)
    assert places["the set of gone"] == (1, True)


async def test_after_the_erasure_only_documented_places_are_left(shop: Store) -> None:
    app = AppFacts(key=KEY, secrets=("s",))
    await shop.apps.put(app, NOW)
    await shop.deactivation.deactivate(KEY, [ANN], NOW)
    for job in await shop.jobs.claim(NOW):
        await shop.jobs.run(job, NOW)
    places = await found(shop)
    assert [place for place, (_, is_documented) in places.items() if not is_documented] == []
    assert places["its own record: that it is out of use, since when Tokens are valid"] == (1, True)
    assert await found(shop, b"an") != {}, "another User is as before"


@pytest.mark.any_keys
async def test_a_key_of_no_known_kind_is_found_by_its_name(shop: Store, redis_server: RedisServer) -> None:
    for name in ("gate:{0}:copy-of:ann", "gate:{0}:copy-of:bob"):
        redis_server.client.set(name, "")
    assert (await found(shop))["an unknown key: gate:{0}:copy-of:ann"] == (1, False)


async def test_an_unknown_id_is_nowhere(shop: Store) -> None:
    assert await found(shop, b"stranger") == {}
