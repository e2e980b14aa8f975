"""Counts of shadow mode in Redis: exact by hour, pruned by day, deleted after a week and with the App."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gate.core.shadow import HOURS_A_DAY, TOP, DayOfShadow, HourOfShadow, ShadowCounts
from gate.store import presence_keys as keys
from gate.store.address import parse_address
from gate.store.cluster import client_of
from gate.store.presence import PresenceStore
from gate.store.shadow import KEPT_DAYS, add_shadow_counts, read_shadow_history
from harness.servers import RedisServer

APP = "default"
NOON = 20_000 * HOURS_A_DAY + 12
ODD = b"\xff\0:/\n"


@pytest.fixture
async def presence(each_redis: RedisServer) -> AsyncIterator[PresenceStore]:
    client = client_of(parse_address(each_redis.url))
    yield PresenceStore(client)
    await client.aclose()


def counted(*pairs: tuple[bytes, bytes], checks: int = 0) -> ShadowCounts:
    counts = ShadowCounts(checks=checks)
    for a, b in pairs:
        counts.note(a, b, "blacklisted")
    return counts


async def test_counts_of_processes_add_up_by_hour_and_day(presence: PresenceStore) -> None:
    client = presence.client
    await add_shadow_counts(client, APP, NOON, counted((b"a", ODD), checks=5))
    await add_shadow_counts(client, APP, NOON, counted((b"a", ODD), (b"a", b"b"), checks=2))
    await add_shadow_counts(client, APP, NOON + 1, counted(checks=3))
    await add_shadow_counts(client, APP, NOON + HOURS_A_DAY, counted((b"c", b"d"), checks=1))
    history = await read_shadow_history(client, APP)
    assert history.hours == [
        HourOfShadow(NOON, 7, {"blacklisted": 3}),
        HourOfShadow(NOON + 1, 3, {}),
        HourOfShadow(NOON + HOURS_A_DAY, 1, {"blacklisted": 1}),
    ]
    assert history.days == [
        DayOfShadow(20_000, {b"a": 3}, {ODD: 2, b"b": 1}, {(b"a", ODD): 2, (b"a", b"b"): 1}),
        DayOfShadow(20_001, {b"c": 1}, {b"d": 1}, {(b"c", b"d"): 1}),
    ]
    assert history.since(20_001).total() == counted((b"c", b"d"), checks=1)
    await presence.remove_app(APP)
    assert not (await read_shadow_history(client, APP)).hours


async def test_tables_are_pruned_as_in_python(presence: PresenceStore) -> None:
    here = ShadowCounts()
    for round_ in range(6):
        some = [(b"%d" % (number % (50 * (round_ + 1))), b"all") for number in range(TOP * 2 - 1)]
        here.add(counted(*some))
        await add_shadow_counts(presence.client, APP, NOON, counted(*some))
    (day,) = (await read_shadow_history(presence.client, APP)).days
    assert day.senders == here.senders
    assert day.pairs == here.pairs
    assert day.recipients == {b"all": 6 * (TOP * 2 - 1)}


async def test_what_is_older_than_a_week_is_deleted(presence: PresenceStore, each_redis: RedisServer) -> None:
    client = presence.client
    for days in (0, 1, KEPT_DAYS - 1):
        await add_shadow_counts(client, APP, NOON + days * HOURS_A_DAY, counted((b"a", b"b")))
    assert len((await read_shadow_history(client, APP)).days) == 3
    await add_shadow_counts(client, APP, NOON + KEPT_DAYS * HOURS_A_DAY, counted((b"a", b"b")))
    history = await read_shadow_history(client, APP)
    assert [one.day for one in history.days] == [20_001, 20_007, 20_008]
    assert [one.hour for one in history.hours] == [NOON + days * HOURS_A_DAY for days in (1, 7, 8)]
    assert 0 < each_redis.client.pttl(keys.shadow(APP)) <= (KEPT_DAYS + 1) * 86_400_000
