from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gate.core.changes import ChangeUnreadable
from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.core.revision import NOWHERE, Position
from gate.errors import InvalidConfig, StoreUnavailable
from gate.store import keys
from gate.store.changelog import MAX_CHANGES_A_READ
from gate.store.store import Store
from gate.store.writer import LOG_MAX_ENTRIES
from harness.servers import RedisServer
from harness.waiting import wait_until_async
from tests.store.conftest import APP
from tests.store.following import Follower

NOW = 1_000


async def test_partitions_get_an_epoch_each_once(store: Store) -> None:
    before = await store.changelog.heads()
    assert before[1:] == [NOWHERE] * (store.partitions - 1), "only Partition 0 is opened by connecting"
    await asyncio.gather(*(store.changelog.prepare() for _ in range(5)))
    heads = await store.changelog.heads()
    assert len({head.epoch for head in heads}) == store.partitions
    assert all(len(head.epoch) == 16 and (head.seq, head.tip) == (0, "") for head in heads)
    assert heads[0] == before[0]
    await store.changelog.prepare()
    assert await store.changelog.heads() == heads


async def test_a_write_before_any_preparation_opens_its_partition(store: Store) -> None:
    written = await store.bans.impose(APP, [b"ann"], 5_000, NOW)
    (revision,) = written.revisions
    head = (await store.changelog.heads())[revision.partition]
    assert (head.epoch, head.seq) == (revision.epoch, revision.seq) == (head.epoch, 1)
    changes = (await store.changelog.read([NOWHERE] * store.partitions, 10))[revision.partition]
    assert [(change.seq, change.write_id, change.previous_write_id) for change in changes] == [(1, head.tip, "")]


async def test_changes_are_a_contiguous_chain_under_concurrency(store: Store, follower: Follower) -> None:
    async def work(number: int) -> None:
        for step in range(10):
            await store.bans.impose(APP, [b"u%d" % (number * step % 17)], 5_000, NOW)
            await store.lists.add(APP, ListKind.BLACKLIST, b"o%d" % number, [b"m%d" % step], FOREVER_MS, NOW, 100)

    await asyncio.gather(*(work(number) for number in range(20)))
    changes = await follower.read_new()  # asserts the chain
    assert len(changes) == 400
    assert len({change.write_id for change in changes}) == 400


async def test_the_write_id_proves_what_stands_at_a_place(store: Store, follower: Follower) -> None:
    revisions = [(await store.bans.impose(APP, [b"ann"], until, NOW)).revisions[0] for until in (2_000, 3_000)]
    changes = await follower.read_new()
    partition = revisions[0].partition
    for revision, change in zip(revisions, changes, strict=True):
        assert await store.changelog.write_id_at(partition, revision.seq) == change.write_id
    assert await store.changelog.write_id_at(partition, 3) is None
    assert await store.changelog.write_id_at((partition + 1) % store.partitions, 1) is None


async def test_a_read_waits_for_the_first_change(store: Store, follower: Follower) -> None:
    reading = asyncio.ensure_future(store.changelog.read(follower.positions, 20_000))
    await store.bans.impose(APP, [b"ann"], 5_000, NOW)
    changes = await asyncio.wait_for(reading, 10)
    assert [change.user for some in changes.values() for change in some] == [b"ann"]


async def test_a_read_without_news_ends_in_time(store: Store, follower: Follower) -> None:
    begun_s = time.monotonic()
    assert await store.changelog.read(follower.positions, 50) == {}
    assert 0.04 < time.monotonic() - begun_s < 5


async def test_a_cancelled_read_does_not_disturb_the_next(store: Store, follower: Follower) -> None:
    reading = asyncio.ensure_future(store.changelog.read(follower.positions, 100))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await store.bans.impose(APP, [b"ann"], 5_000, NOW)
    assert (await follower.read_one()).user == b"ann"


async def test_a_read_is_bounded_and_goes_on_where_it_ended(store: Store, follower: Follower) -> None:
    async with store.bulk(APP, NOW) as bulk:
        for number in range(store.partitions * MAX_CHANGES_A_READ * 2):
            await bulk.ban(b"u%d" % number, 5_000)
        await bulk.flush()
    first = await store.changelog.read(follower.positions, 10)
    assert max(len(some) for partition, some in first.items() if partition) == MAX_CHANGES_A_READ
    assert len(await follower.read_new()) == store.partitions * MAX_CHANGES_A_READ * 2


async def test_no_fact_overtakes_the_creation_of_its_app(store: Store, follower: Follower) -> None:
    async with store.bulk(APP, NOW) as bulk:  # Partition 0 has more to read than one read takes
        zero = [user for n in range(60_000) if not store.writer.partition_of(APP, user := b"u%d" % n)]
        for user in zero[: MAX_CHANGES_A_READ + 500]:
            await bulk.ban(user, 5_000)
        await bulk.flush()
    await store.apps.create(AppFacts(key="new", secrets=("s",)), NOW)
    written = await store.bans.impose("new", [b"ann", b"bob", b"cid"], 5_000, NOW)
    assert any(revision.partition for revision in written.revisions)
    changes = await store.changelog.read(follower.positions, 10)
    assert changes[0][MAX_CHANGES_A_READ + 500].kind == "app-set"


async def test_the_log_is_trimmed_and_a_hole_shows(store: Store) -> None:
    await store.changelog.prepare()
    async with store.bulk(APP, NOW) as bulk:
        user = b"ann"
        partition = store.writer.partition_of(APP, user)
        others = [u for n in range(2_000) if store.writer.partition_of(APP, u := b"u%d" % n) == partition]
        for _ in range(LOG_MAX_ENTRIES * 5 // 4 // len(others)):
            for other in others:
                await bulk.ban(other, 5_000)
            await bulk.flush()
    head = (await store.changelog.heads())[partition]
    assert head.seq > LOG_MAX_ENTRIES * 6 // 5
    ((length,),) = [await store.client.read(("XLEN", keys.log(partition)))]
    assert LOG_MAX_ENTRIES <= length < LOG_MAX_ENTRIES + 1_000
    positions = [Position(head.epoch, 0, "")] * store.partitions
    first = (await store.changelog.read(positions, 10))[partition][0]
    assert first.seq == head.seq - length + 1 > 1
    assert await store.changelog.write_id_at(partition, 1) is None


async def test_an_emptied_server_starts_another_history(
    each_redis: RedisServer, store: Store, follower: Follower
) -> None:
    await store.bans.impose(APP, [b"ann"], 5_000, NOW)
    await follower.read_new()
    each_redis.client.flushall()
    assert await store.changelog.heads() == [NOWHERE] * store.partitions
    await store.changelog.prepare()
    heads = await store.changelog.heads()
    assert not {head.epoch for head in heads} & {position.epoch for position in follower.positions}
    (written,) = (await store.bans.impose(APP, [b"ann"], 5_000, NOW)).revisions
    assert (written.epoch, written.seq) == (heads[written.partition].epoch, 1)


async def test_a_log_without_its_meta_is_no_history(each_redis: RedisServer, store: Store) -> None:
    (revision,) = (await store.bans.impose(APP, [b"ann"], 5_000, NOW)).revisions
    for _ in range(3):
        await store.bans.impose(APP, [b"ann"], 5_000, NOW)
    each_redis.client.delete(keys.meta(revision.partition))
    (fresh,) = (await store.bans.impose(APP, [b"ann"], 6_000, NOW)).revisions
    assert (fresh.epoch != revision.epoch, fresh.seq) == (True, 1)
    changes = (await store.changelog.read([NOWHERE] * store.partitions, 10))[revision.partition]
    assert [change.until_ms for change in changes] == [6_000]


async def test_another_deployments_redis_is_noticed(each_redis: RedisServer, store: Store) -> None:
    each_redis.client.hset(keys.meta(0), keys.META_PARTITIONS, 4)
    with pytest.raises(InvalidConfig, match="4 Partitions, not 16"):
        await store.changelog.prepare()


async def test_an_entry_of_no_known_kind_is_refused(each_redis: RedisServer, store: Store, follower: Follower) -> None:
    each_redis.client.xadd(keys.log(3), {"k": "sung", "t": 1, "w": "0" * 16, "p": "", "a": "x"}, id="1-0")
    with pytest.raises(ChangeUnreadable):
        await store.changelog.read(follower.positions, 10)


async def test_a_server_that_went_back_and_wrote_on_is_found_out(private_redis: RedisServer, tmp_path: Path) -> None:
    store = await Store.connect(private_redis.url)
    try:
        await store.bans.impose(APP, [b"ann"], 2_000, NOW)
        private_redis.save_copy(tmp_path / "older.rdb")
        for until_ms in (3_000, 4_000):
            (known,) = (await store.bans.impose(APP, [b"ann"], until_ms, NOW)).revisions
        tip = await store.changelog.write_id_at(known.partition, known.seq)
        private_redis.restart_from(tmp_path / "older.rdb")
        await wait_until_async(lambda: has_head(store, known.partition, 1), 5, "the store to be back")
        for until_ms in (5_000, 6_000, 7_000):
            (now,) = (await store.bans.impose(APP, [b"ann"], until_ms, NOW)).revisions
        assert (now.epoch, now.seq) == (known.epoch, known.seq + 1), "numbers alone show nothing"
        assert await store.changelog.write_id_at(known.partition, known.seq) != tip
        positions = [Position(known.epoch, known.seq, tip or "")] * store.partitions
        (change,) = (await store.changelog.read(positions, 10))[known.partition]
        assert change.previous_write_id != tip
    finally:
        await store.aclose()


async def has_head(store: Store, partition: int, seq: int) -> bool:
    try:
        return (await store.changelog.heads())[partition].seq == seq
    except StoreUnavailable:
        return False
