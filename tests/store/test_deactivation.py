"""Deactivation, erasure and reactivation, on each server; each step of a job may run twice, or never complete."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest

from gate.core.model import FOREVER_MS, AppFacts, ListKind, UserFacts
from gate.errors import InvalidInput, ReactivationTooEarly
from gate.store import keys
from gate.store.deactivation import DeactivatedUser
from gate.store.jobs import LEASE_MS, Job, Jobs
from gate.store.store import Store
from gate.store.webhook_queue import QueuedWebhook
from harness.servers import RedisServer
from tests.store.conftest import APP
from tests.store.following import Follower, snapshot_facts
from tests.store.odd_ids import ODD_IDS

NOW = 1_000_000
HOUR_MS = 3_600_000
GONE = UserFacts(deactivated=True, registered=True)
"""Fields that remain of a registered User."""


async def fill(store: Store, user: bytes) -> None:
    """All facts that a User may have, and its place on another's lists."""
    await store.users.register(APP, [user], NOW)
    await store.bans.impose(APP, [user], FOREVER_MS, NOW, "why", "by")
    await store.mutes.impose(APP, [user], FOREVER_MS, NOW)
    await store.users.revoke_tokens(APP, [user], NOW, NOW)
    await store.lists.switch(APP, [user], True, NOW)
    for kind in ListKind:
        await store.lists.add(APP, kind, user, [b"x", b"y"], FOREVER_MS, NOW, None)
        await store.lists.add(APP, kind, user, [b"z"], NOW * 9, NOW, None)
        await store.lists.add(APP, kind, b"other", [user], FOREVER_MS, NOW, None)


async def work(store: Store, now_ms: int) -> int:
    jobs = await store.jobs.claim(now_ms)
    for job in jobs:
        await store.jobs.run(job, now_ms)
    return len(jobs)


async def taken(store: Store) -> list[QueuedWebhook]:
    return await store.webhooks.take("node", 100, [1_000_000])


def keys_naming(server: RedisServer, user: bytes) -> set[bytes]:
    """Keys of one User, and keys of the App that hold it as a member."""
    client = server.client
    found = {key for key in client.scan_iter() if key.endswith(b":" + user)}
    sets = [key for key in client.scan_iter() if client.type(key) == b"zset"]
    return found | {
        key for key in sets for member in client.zrange(key, 0, -1) if user in (member, member[len(APP) + 1 :])
    }


async def test_a_user_is_gone_at_once_and_erased_by_the_job(
    store: Store, follower: Follower, each_redis: RedisServer
) -> None:
    await fill(store, b"ann")
    operation = await store.deactivation.deactivate(APP, [b"ann"], NOW)
    assert re.fullmatch(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){3}", operation.id)
    await follower.read_new()
    assert follower.stands_at(operation.written.revisions)
    assert follower.facts.users[APP, b"ann"].deactivated
    assert await store.deactivation.page(APP, 0, 10) == [DeactivatedUser(b"ann", NOW)]
    assert await taken(store) == []
    assert await work(store, NOW) == 1
    assert [change.kind for change in await follower.read_new()] == ["user-erased"]
    assert (await store.users.facts(APP, [b"ann"])) == [GONE]
    assert follower.facts.users == (await snapshot_facts(store.changelog)).users == {(APP, b"ann"): GONE}
    assert await store.users.profiles(APP, [b"ann"]) == [None]
    assert await store.users.count(APP) == 0
    assert (APP, ListKind.BLACKLIST, b"ann") not in follower.facts.lists
    partition, other = store.writer.partition_of(APP, b"ann"), store.writer.partition_of(APP, b"other")
    assert keys_naming(each_redis, b"ann") == {
        keys.user(partition, APP, b"ann"),
        keys.gone(partition, APP),
        *(keys.entries(other, kind, APP, b"other") for kind in ListKind),
    }
    assert await store.deactivation.page(APP, 0, 10) == [DeactivatedUser(b"ann", NOW)]
    (hook,) = await taken(store)
    assert hook[2:] == (1, APP, b"ann", operation.id, "0", "0", NOW)


async def test_a_job_is_taken_over_by_the_clock_of_the_node_that_watches(valkey_store: Store) -> None:
    store, hour_ahead = valkey_store, Jobs(valkey_store.writer)
    await store.deactivation.deactivate(APP, [b"ann"], NOW)
    assert len(await hour_ahead.claim(NOW + HOUR_MS)) == 1, "and it hangs"
    assert await store.jobs.claim(5) == []
    assert await store.jobs.claim(5 + LEASE_MS - 1) == []
    assert len(await store.jobs.claim(5 + LEASE_MS)) == 1
    assert await hour_ahead.claim(NOW + HOUR_MS + LEASE_MS) == [], "the claim is another's now"


async def test_a_place_under_the_limit_is_free_again(store: Store) -> None:
    app = AppFacts(key=APP, secrets=("s",), user_limit=1)
    await store.users.enrol(app, b"ann", NOW)
    await store.deactivation.deactivate(APP, [b"ann"], NOW)
    await work(store, NOW)
    await store.users.enrol(app, b"bob", NOW)


STEPS: dict[str, Callable[[Jobs, Job], Awaitable[object]]] = {
    "erase": lambda jobs, job: jobs.erase(job, NOW),
    "release": lambda jobs, job: jobs.release(job),
    "finish": lambda jobs, job: jobs.finish(job, NOW),
}


@pytest.mark.parametrize("done", range(4))
async def test_a_worker_that_dies_after_any_step_leaves_a_job_that_ends_once(store: Store, done: int) -> None:
    await fill(store, b"ann")
    operation = await store.deactivation.deactivate(APP, [b"ann"], NOW)
    (job,) = await store.jobs.claim(NOW)
    for step in list(STEPS.values())[:done]:
        await step(store.jobs, job)
    assert await work(store, NOW) == await work(store, NOW + LEASE_MS - 1) == 0, "the first may still be at it"
    assert await work(store, NOW + LEASE_MS) == (0 if done == 3 else 1)
    assert (await store.users.facts(APP, [b"ann"])) == [GONE]
    assert [hook.operation for hook in await taken(store)] == [operation.id]
    assert await work(store, NOW + LEASE_MS * 9) == 0


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_comes_too_late_touches_nothing(store: Store, step: str) -> None:
    await store.deactivation.deactivate(APP, [b"ann"], NOW)
    (job,) = await store.jobs.claim(NOW)
    await store.jobs.run(job, NOW)
    await store.deactivation.reactivate(APP, [b"ann"], NOW + HOUR_MS, HOUR_MS)
    await store.bans.impose(APP, [b"ann"], FOREVER_MS, NOW)
    results = len(await taken(store))
    await STEPS[step](store.jobs, job)
    assert await store.bans.count(APP, NOW) == 1
    assert not (await store.users.facts(APP, [b"ann"]))[0].deactivated
    assert (results, await taken(store)) == (2, [])


async def test_deactivating_again_reports_at_once_and_keeps_the_moment(store: Store) -> None:
    first = await store.deactivation.deactivate(APP, [b"ann"], NOW)
    again = await store.deactivation.deactivate(APP, [b"ann"], NOW + 5)
    assert again.written.revisions
    assert [hook.operation for hook in await taken(store)] == [again.id]
    await work(store, NOW)
    assert [hook.operation for hook in await taken(store)] == [first.id]
    assert await store.deactivation.page(APP, 0, 10) == [DeactivatedUser(b"ann", NOW)]


async def test_reactivation_gives_the_id_back_and_nothing_else(store: Store, follower: Follower) -> None:
    await fill(store, b"ann")
    await store.deactivation.deactivate(APP, [b"ann"], NOW)
    await work(store, NOW)
    await taken(store)
    later = NOW + HOUR_MS
    operation = await store.deactivation.reactivate(APP, [b"ann"], later, HOUR_MS)
    changes = await follower.read_new()
    anns = [change.kind for change in changes if change.user == b"ann"]
    assert anns[-3:] == ["tokens-revoked", "user-registered", "user-reactivated"]
    assert follower.facts.users == {(APP, b"ann"): UserFacts(tokens_valid_from_ms=later + 1)}
    assert follower.facts.users == (await snapshot_facts(store.changelog)).users
    assert await store.users.profiles(APP, [b"ann"]) == [None]
    assert await store.deactivation.page(APP, 0, 10) == []
    (hook,) = await taken(store)
    assert (hook.operation, hook.kind, hook.code) == (operation.id, "1", "0")


async def test_reactivating_who_is_not_deactivated_is_fine_and_reported(store: Store) -> None:
    operation = await store.deactivation.reactivate(APP, [b"ann"], NOW, HOUR_MS)
    assert operation.written.revisions
    assert await store.users.facts(APP, [b"ann"]) == [UserFacts()]
    assert [hook.operation for hook in await taken(store)] == [operation.id]


@pytest.mark.parametrize("others", [0, 40], ids=["by the script", "by the look before it"])
async def test_too_early_refuses_the_whole_call_and_says_when(store: Store, follower: Follower, others: int) -> None:
    users = [b"ann", *(b"u%d" % number for number in range(others))]
    await store.deactivation.deactivate(APP, users, NOW)
    await work(store, NOW)
    await store.deactivation.deactivate(APP, [b"late"], NOW + 10_000)
    await follower.read_new()
    with pytest.raises(ReactivationTooEarly) as erasing:
        await store.deactivation.reactivate(APP, [*users[:others], b"late"], NOW + 2 * HOUR_MS, HOUR_MS)
    assert erasing.value.from_ms is None
    await work(store, NOW + 10_000)
    await follower.read_new()
    with pytest.raises(ReactivationTooEarly) as early:
        await store.deactivation.reactivate(APP, [*users[:others], b"late"], NOW + HOUR_MS, HOUR_MS)
    assert (early.value.user, early.value.from_ms) == (b"late", NOW + 10_000 + HOUR_MS)
    assert "1970-01-01 01:16:51Z" in str(early.value)
    assert await follower.read_new() == []
    assert len(await store.deactivation.page(APP, 0, 100)) == others + 2
    await store.deactivation.reactivate(APP, [*users, b"late"], NOW + 10_000 + HOUR_MS, HOUR_MS)
    assert await store.deactivation.page(APP, 0, 100) == []


async def test_too_early_is_answered_for_each_user_by_its_hook(store: Store, follower: Follower) -> None:
    users = [b"u%d" % number for number in range(40)]
    await store.deactivation.deactivate(APP, users, NOW)
    await work(store, NOW)
    await store.deactivation.deactivate(APP, [b"late"], NOW + 10_000)
    await work(store, NOW + 10_000)
    await store.deactivation.deactivate(APP, [b"erasing"], NOW)
    await taken(store)
    await follower.read_new()
    at_ms = NOW + HOUR_MS
    asked = [*users, b"late", b"erasing", b"never"]
    operation = await store.deactivation.reactivate(APP, asked, at_ms, HOUR_MS, refuse_early=False)
    hooks = await taken(store)
    assert {(hook.operation, hook.kind, hook.at_ms) for hook in hooks} == {(operation.id, "1", at_ms)}
    assert {hook.user: hook.code for hook in hooks} == {
        user: "1" if user in (b"late", b"erasing") else "0" for user in asked
    }
    assert {change.user for change in await follower.read_new()} == {*users, b"never"}
    assert {gone.user for gone in await store.deactivation.page(APP, 0, 100)} == {b"late", b"erasing"}


async def test_any_id_goes_the_whole_way(store: Store, follower: Follower) -> None:
    await store.deactivation.deactivate(APP, ODD_IDS, NOW)
    assert sorted(gone.user for gone in await store.deactivation.page(APP, 0, 100)) == sorted(ODD_IDS)
    assert await work(store, NOW) == len(ODD_IDS)
    assert sorted(hook.user for hook in await taken(store)) == sorted(ODD_IDS)
    await store.deactivation.reactivate(APP, ODD_IDS, NOW + 1, 0)
    await follower.read_new()
    assert follower.facts.users == (await snapshot_facts(store.changelog)).users


async def test_pages_join_without_gap_and_are_the_apps_own(store: Store) -> None:
    for number in range(30):
        await store.deactivation.deactivate(APP, [b"u%d" % number], NOW + number % 4)
    await store.deactivation.deactivate("other", [b"elsewhere"], NOW)
    pages = [await store.deactivation.page(APP, offset, 7) for offset in range(0, 35, 7)]
    everybody = [(gone.since_ms, gone.user) for page in pages for gone in page]
    assert everybody == sorted(((NOW + number % 4, b"u%d" % number) for number in range(30)), reverse=True)
    with pytest.raises(InvalidInput):
        await store.deactivation.page(APP, 0, 100_001)


async def test_an_app_that_is_removed_takes_its_jobs_along(store: Store, each_redis: RedisServer) -> None:
    await store.apps.create(AppFacts(key=APP, secrets=("s",)), NOW)
    await fill(store, b"ann")
    await store.deactivation.deactivate(APP, [b"ann"], NOW)
    await store.apps.remove(APP, NOW)
    assert await work(store, NOW) == 1
    assert await taken(store) == []
    left = {key for key in each_redis.client.scan_iter() if APP.encode() in key}
    assert left == set()
