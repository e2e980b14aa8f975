from __future__ import annotations

from gate.core.model import FOREVER_MS, NO_FACTS, ListKind, UserFacts
from gate.store import keys
from gate.store.store import Store
from tests.store.conftest import APP
from tests.store.following import Follower, snapshot_facts
from tests.store.odd_ids import ODD_IDS

NOW = 1_000


async def test_each_fact_is_set_said_and_read(store: Store, follower: Follower) -> None:
    user = [b"ann"]
    for writing, kind, value, facts in (
        (store.users.register(APP, user, NOW), "user-registered", b"1", UserFacts(registered=True)),
        (
            store.users.revoke_tokens(APP, user, 777, NOW),
            "tokens-revoked",
            b"777",
            UserFacts(registered=True, tokens_valid_from_ms=777),
        ),
    ):
        written = await writing
        change = await follower.read_one()
        assert (change.kind, change.value, change.user) == (kind, value, b"ann")
        assert follower.stands_at(written.revisions)
        assert await store.users.facts(APP, user) == [facts]
        assert follower.facts.users == (await snapshot_facts(store.changelog)).users == {(APP, b"ann"): facts}


async def test_saying_it_again_does_not_move_since_when(store: Store) -> None:
    for now_ms in (NOW, NOW + 5):
        await store.users.register(APP, [b"ann"], now_ms)
    for now_ms in (NOW, NOW + 5):
        await store.deactivation.deactivate(APP, [b"ann"], now_ms)
    key = keys.user(store.writer.partition_of(APP, b"ann"), APP, b"ann")
    (moments,) = await store.client.read(("HMGET", key, keys.REGISTERED_AT, keys.DEACTIVATED_AT))
    assert moments == [b"1000", b"1000"]


async def test_facts_of_many_come_in_order_with_list_sizes(store: Store) -> None:
    await store.users.register(APP, ODD_IDS, NOW)
    await store.lists.add(APP, ListKind.BLACKLIST, ODD_IDS[0], [b"a", b"b"], FOREVER_MS, NOW, 10)
    await store.lists.add(APP, ListKind.WHITELIST, ODD_IDS[1], [b"a"], 5_000, NOW, 10)
    facts = await store.users.facts(APP, [*ODD_IDS, b"stranger"])
    assert facts[0] == UserFacts(registered=True, blacklist_size=2)
    assert facts[1] == UserFacts(registered=True, whitelist_size=1)
    assert facts[2:] == [UserFacts(registered=True)] * (len(ODD_IDS) - 2) + [NO_FACTS]
    assert await store.users.facts(APP, []) == []
    assert await store.users.facts("other", ODD_IDS) == [NO_FACTS] * len(ODD_IDS)
