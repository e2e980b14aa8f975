"""Bans and Mutes share their code: each test runs for both, on each server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from gate.core.model import FOREVER_MS, AppFacts
from gate.errors import InvalidInput, UserDeactivated
from gate.store.app_writes import AppWrites, PenaltyKind
from gate.store.penalties import Penalties, Penalty
from gate.store.store import Store
from gate.store.writer import Attribution
from tests.store.conftest import APP
from tests.store.following import Follower, snapshot_facts
from tests.store.odd_ids import ODD_IDS

NOW = 1_000


@dataclass(frozen=True)
class Case:
    kind: PenaltyKind
    noun: Callable[[Store], Penalties]
    imposed: str
    lifted: str
    field: str


CASES = {
    "ban": Case("ban", lambda store: store.bans, "ban-imposed", "ban-lifted", "banned_until_ms"),
    "mute": Case("mute", lambda store: store.mutes, "mute-imposed", "mute-lifted", "muted_until_ms"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


async def test_imposing_sets_the_fact_and_says_so(store: Store, follower: Follower, case: Case) -> None:
    written = await case.noun(store).impose(APP, [b"ann"], 5_000, NOW, why="spam", by="ops")
    change = await follower.read_one()
    assert (change.kind, change.app, change.user, change.until_ms) == (case.imposed, APP, b"ann", 5_000)
    assert change.at_ms == NOW
    assert follower.stands_at(written.revisions)
    (facts,) = await store.users.facts(APP, [b"ann"])
    assert getattr(facts, case.field) == 5_000
    assert await case.noun(store).page(APP, NOW, 0, 10) == [Penalty(b"ann", 5_000, "spam", "ops")]


@pytest.mark.parametrize("later_ms", [2_000, 9_000])
async def test_a_later_one_replaces_the_earlier_with_its_reasons(
    store: Store, follower: Follower, case: Case, later_ms: int
) -> None:
    await case.noun(store).impose(APP, [b"ann"], 5_000, NOW, why="spam", by="ops")
    await case.noun(store).impose(APP, [b"ann"], later_ms, NOW)
    assert [change.until_ms for change in await follower.read_new()] == [5_000, later_ms]
    assert await case.noun(store).page(APP, NOW, 0, 10) == [Penalty(b"ann", later_ms, "", "")]
    await case.noun(store).impose(APP, [b"ann"], later_ms, NOW, by="new")
    assert await case.noun(store).page(APP, NOW, 0, 10) == [Penalty(b"ann", later_ms, "", "new")]


async def test_lifting_leaves_nothing_and_may_be_repeated(store: Store, follower: Follower, case: Case) -> None:
    await case.noun(store).impose(APP, [b"ann"], 5_000, NOW, why="spam", by="ops")
    for _ in range(2):
        written = await case.noun(store).lift(APP, [b"ann"], NOW)
        assert [change.kind for change in await follower.read_new()][-1] == case.lifted
        assert follower.stands_at(written.revisions)
    assert follower.facts.users == (await snapshot_facts(store.changelog)).users == {}
    assert await case.noun(store).count(APP, NOW) == 0


async def test_lifting_one_leaves_the_other_penalty(store: Store, case: Case) -> None:
    for one in CASES.values():
        await one.noun(store).impose(APP, [b"ann"], 5_000, NOW, why="why")
    await case.noun(store).lift(APP, [b"ann"], NOW)
    counts = {name: await one.noun(store).count(APP, NOW) for name, one in CASES.items()}
    assert counts == {name: int(one is not case) for name, one in CASES.items()}


async def test_an_end_counts_from_its_very_millisecond(store: Store, case: Case) -> None:
    await case.noun(store).impose(APP, [b"ann"], 5_000, NOW)
    assert await case.noun(store).count(APP, 4_999) == 1
    assert len(await case.noun(store).page(APP, 4_999, 0, 10)) == 1
    assert await case.noun(store).count(APP, 5_000) == 0
    assert await case.noun(store).page(APP, 5_000, 0, 10) == []


async def test_many_users_over_many_partitions_are_one_call(store: Store, follower: Follower, case: Case) -> None:
    users = [b"user%d" % number for number in range(200)]
    written = await case.noun(store).impose(APP, [*users, users[0]], FOREVER_MS, NOW)
    assert len(written.revisions) == store.partitions
    changes = await follower.read_new()
    assert sorted(change.user for change in changes) == sorted(users), "each once"
    assert follower.stands_at(written.revisions)
    assert await case.noun(store).count(APP, NOW) == 200
    await case.noun(store).lift(APP, users, NOW)
    assert await case.noun(store).count(APP, NOW) == 0


async def test_pages_run_from_the_latest_end_and_join_without_gap(store: Store, case: Case) -> None:
    expected = sorted(((2_000 + number % 7, b"user%d" % number) for number in range(60)), reverse=True)
    for until_ms, user in expected:
        await case.noun(store).impose(APP, [user], until_ms, NOW)
    await case.noun(store).impose(APP, [b"over"], NOW, NOW)
    await case.noun(store).impose("other", [b"elsewhere"], 9_999, NOW)
    pages = [await case.noun(store).page(APP, NOW, offset, 7) for offset in range(0, 70, 7)]
    assert [(row.until_ms, row.user) for page in pages for row in page] == expected
    assert [len(page) for page in pages] == [7] * 8 + [4, 0]


@pytest.mark.parametrize(("offset", "count"), [(-1, 10), (0, 0), (99_999, 2)])
async def test_a_page_out_of_bounds_is_refused(valkey_store: Store, offset: int, count: int) -> None:
    with pytest.raises(InvalidInput):
        await valkey_store.bans.page(APP, NOW, offset, count)


@pytest.mark.parametrize("until_ms", [0, -1, FOREVER_MS + 1])
async def test_an_end_that_redis_could_not_keep_exactly_is_refused(valkey_store: Store, until_ms: int) -> None:
    with pytest.raises(InvalidInput):
        await valkey_store.bans.impose(APP, [b"ann"], until_ms, NOW)


async def test_any_id_and_any_reason_comes_back_whole(store: Store, follower: Follower, case: Case) -> None:
    await case.noun(store).impose(APP, ODD_IDS, 5_000, NOW, why="ünï: \r\n\0 😀", by="a:b")
    assert sorted(change.user for change in await follower.read_new()) == sorted(ODD_IDS)
    page = await case.noun(store).page(APP, NOW, 0, 100)
    assert [row.user for row in page] == sorted(ODD_IDS, reverse=True)
    assert {(row.why, row.by) for row in page} == {("ünï: \r\n\0 😀", "a:b")}
    assert (await snapshot_facts(store.changelog)).users == follower.facts.users


async def test_a_deactivated_user_refuses_the_whole_call(store: Store, follower: Follower, case: Case) -> None:
    users = [b"user%d" % number for number in range(40)]
    await store.deactivation.deactivate(APP, [users[7]], NOW)
    await follower.read_new()
    for group in (users, [users[7]]):  # seen before any script, and by the script
        with pytest.raises(UserDeactivated) as refused:
            await case.noun(store).impose(APP, group, 5_000, NOW)
        assert refused.value.users == [users[7]]
    assert await follower.read_new() == []
    assert await case.noun(store).count(APP, NOW) == 0
    await case.noun(store).impose(APP, users, 5_000, NOW, refuse_deactivated=False)
    assert await case.noun(store).count(APP, NOW) == 40


async def test_deactivated_users_are_left_out_and_named(store: Store, follower: Follower, case: Case) -> None:
    users = [b"user%d" % number for number in range(40)]
    await store.deactivation.deactivate(APP, [users[7], users[30]], NOW)
    await follower.read_new()
    writes = AppWrites(store, AppFacts(key=APP, secrets=()), NOW, Attribution("ops", "spam"))
    imposed = await writes.impose(case.kind, users, 5_000)
    assert imposed.skipped == [users[7], users[30]]
    assert {change.user for change in await follower.read_new()} == set(users) - {users[7], users[30]}
    assert await case.noun(store).count(APP, NOW) == 38
    with pytest.raises(UserDeactivated) as refused:
        await writes.impose(case.kind, [users[30], users[7]], 5_000)
    assert refused.value.users == [users[30], users[7]]


async def test_too_many_users_in_one_call_are_refused(valkey_store: Store) -> None:
    with pytest.raises(InvalidInput):
        await valkey_store.bans.impose(APP, [b"%d" % number for number in range(10_001)], 5_000, NOW)
