"""A backup holds everything, as of one Revision of each Partition; a restore brings all of it back, wherever it may go."""

from __future__ import annotations

import asyncio
import io
import random
from contextlib import suppress
from typing import Any

import pytest

from gate.core.backup import BackupReader, BackupWriter, End, Header, Rows
from gate.core.model import FOREVER_MS, AppFacts, ListKind
from gate.core.operators import Operator
from gate.core.revision import NOWHERE, Position
from gate.errors import ListFull, NotEmpty, StoreUnavailable, TokensHeld, Unavailable
from gate.store import backup as backup_module
from gate.store.address import parse_address
from gate.store.backup import BackupSource
from gate.store.cluster import client_of
from gate.store.lists import Group
from gate.store.restore import Restore
from gate.store.store import Store
from gate.store.users import Registration
from gate.store.writer import Attribution
from harness.seeds import seed
from harness.sentinels import SentinelSetup
from harness.servers import RedisServer
from tests.store.conftest import PATIENCE_MS
from tests.store.following import Facts, Follower, snapshot_facts
from tests.store.odd_ids import ODD_IDS

SEED = seed(15)
APPS = [
    AppFacts(key="shop", name="Shop", secrets=("s1", "s2"), environment="production", exempt=frozenset({"bot"})),
    AppFacts(key="game", secrets=("s",), webhook_url="http://127.0.0.1:1/hook", user_limit=50),
]
USERS = [*ODD_IDS[:8], *(b"u%d" % number for number in range(30))]
# Not restored, by design: the history, the registry, and what only a running deployment needs.
LEFT_OUT = (b":meta", b":log", b"gate:registry", b":settings", b":nonces:", b":hook-last:", b":console-sessions")


async def backed_up(store: Store, *, with_audit: bool = True) -> bytes:
    stream, source = io.BytesIO(), BackupSource(store)
    writer = BackupWriter(stream, Header(gate="0", made_at_ms=1, partitions=store.partitions, has_audit=with_audit))
    async for batch in source.records(with_audit=with_audit):
        for record in batch:
            writer.add(record)
    writer.finish(source.end())
    return stream.getvalue()


def read_through(content: bytes) -> tuple[Header, End, str, frozenset[str]]:
    reader = BackupReader(io.BytesIO(content))
    records = [record for some in reader.records() for record in some]
    apps = frozenset(
        key.decode() for one in records if isinstance(one, Rows) and one.noun == "apps" for key in one.flat[::2]
    )
    assert reader.end is not None
    return reader.header, reader.end, reader.checksum, apps


async def restored(url: str, content: bytes, partitions: int | None = None, cut_after: int | None = None) -> Restore:
    """Restore a file; `cut_after` so many blocks it is interrupted."""
    header, end, checksum, apps = read_through(content)
    client = client_of(parse_address(url), PATIENCE_MS, PATIENCE_MS)
    try:
        target = Restore(client, header, checksum, apps, max(seq for _, seq, _ in end.heads))
        await target.begin(partitions)
        for number, records in enumerate(BackupReader(io.BytesIO(content)).records()):
            if number == cut_after:
                return target
            await target.put(records)
        await target.finish()
        return target
    finally:
        await client.aclose()


def dump(redis_server: RedisServer) -> dict[bytes, object]:
    """Everything that a backup must hold, as Redis has it."""
    client: Any = redis_server.client
    found: dict[bytes, object] = {}
    for key in client.keys("gate:*"):
        if any(word in key for word in LEFT_OUT):
            continue
        kind = client.type(key)
        if kind == b"hash":
            found[key] = client.hgetall(key)
        elif kind == b"zset":
            found[key] = client.zrange(key, 0, -1, withscores=True)
        else:
            found[key] = client.xrange(key)
    # A stream stays when its last entry is deleted.
    return {key: content for key, content in found.items() if content}


async def fill(store: Store, draw: random.Random, writes: int, now_ms: int = 1) -> None:
    """Random facts of every kind, with reasons, ends, deactivations, erasures, dead letters and odd ids."""
    by = Attribution("joe", "because")
    for app in APPS:
        await store.apps.create(app, now_ms, "needed", "joe")
    for name in ("ann", "bob"):
        await store.operators.add(Operator(name=name, role="admin", password_hash="$h", created_at_ms=1), by)
    for _ in range(writes):
        await write_at_random(store, draw, now_ms)
    await store.deactivation.deactivate("game", [b"left", b"gone"], now_ms, "because", "joe")
    for job in await store.jobs.claim(now_ms):
        await store.jobs.run(job, now_ms)
    for hook in await store.webhooks.take("n1", 10, [0]):
        await store.webhooks.bury(hook, "refused")
    await store.deactivation.deactivate("game", [b"left", b"third"], now_ms, "because", "joe")


async def write_at_random(store: Store, draw: random.Random, now_ms: int) -> None:
    key = draw.choice(APPS).key
    some, end = draw.sample(USERS, draw.randint(1, 4)), draw.choice([FOREVER_MS, 5_000, 4_000_000_000_000])
    kind, why, by = draw.choice(list(ListKind)), draw.choice(["", "spam"]), draw.choice(["", "joe"])
    match draw.randrange(10):
        case 0:
            await store.bans.impose(key, some, end, now_ms, why, by, refuse_deactivated=False)
        case 1:
            await store.mutes.impose(key, some, end, now_ms, why, by, refuse_deactivated=False)
        case 2:
            await store.bans.lift(key, some, now_ms)
        case 3:
            await store.mutes.lift(key, some, now_ms)
        case 4 | 5:
            with suppress(ListFull):
                await store.lists.add(key, kind, some[0], draw.sample(USERS, 5), end, now_ms, 25)
        case 6:
            await store.lists.remove(key, kind, some[0], draw.sample(USERS, 3), now_ms)
        case 7:
            await store.lists.switch(key, some, draw.random() < 0.6, now_ms)
        case 8:
            rows = [
                Registration(user, now_ms, draw.choice([None, "Ann", ""]), draw.choice([None, "p"])) for user in some
            ]
            await store.users.register_all(key, rows, now_ms, refuse_deactivated=False)
        case _:
            if draw.random() < 0.5:
                await store.users.revoke_tokens(key, some, draw.choice([1, 60_000]), now_ms)
            else:
                await store.users.erase(key, [b"no-one", b"erased"], now_ms)


@pytest.mark.parametrize("example", range(3))
async def test_all_facts_come_back_as_they_were(store: Store, each_redis: RedisServer, example: int) -> None:
    await fill(store, random.Random(f"{SEED}/{example}"), 120)
    before = dump(each_redis)
    content = await backed_up(store)
    each_redis.client.flushall()
    target = await restored(each_redis.url, content)
    assert dump(each_redis) == before
    assert (target.partitions, target.is_repeated) == (16, False)
    assert len([key for key in before if b":audit" in key]) > 10 and {b"hooks", b"hooks-dead", b"jobs"} <= {
        key.split(b":")[2] for key in before
    }


@pytest.mark.parametrize("partitions", [1, 5, 40])
async def test_another_number_of_partitions_has_the_same_facts(
    store: Store, each_redis: RedisServer, partitions: int
) -> None:
    await fill(store, random.Random(SEED), 80)
    facts, audits = await snapshot_facts(store.changelog), await _audits(store)
    dead = {dead.hook.user for dead in await store.webhooks.dead("game")}
    content = await backed_up(store)
    each_redis.client.flushall()
    await restored(each_redis.url, content, partitions)
    again = await Store.connect(each_redis.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    assert again.partitions == partitions
    assert await snapshot_facts(again.changelog) == facts
    assert await _audits(again) == audits
    assert {dead.hook.user for dead in await again.webhooks.dead("game")} == dead != set()
    await again.aclose()


async def test_entries_of_later_changes_are_the_newest_of_their_list(
    valkey_store: Store, redis_server: RedisServer
) -> None:
    for number in range(3):
        await valkey_store.lists.add("default", ListKind.BLACKLIST, b"bob", [b"m%d" % number], FOREVER_MS, 1, 100)
    content = await backed_up(valkey_store)
    redis_server.client.flushall()
    await restored(redis_server.url, content)
    await valkey_store.lists.add("default", ListKind.BLACKLIST, b"bob", [b"newest"], FOREVER_MS, 1, 100)
    page, _ = await valkey_store.lists.page("default", ListKind.BLACKLIST, b"bob", 1, None, 10)
    assert [entry.member for entry in page] == [b"newest", b"m2", b"m1", b"m0"]


async def test_writes_meanwhile_are_in_up_to_the_revision_of_their_partition(
    valkey_store: Store, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The facts of the file are the sum of the Changes up to exactly the heads that it names."""
    monkeypatch.setattr(backup_module, "LAST_CHANGES", 40)
    redis_server.client.flushall()
    follower = await Follower.start(valkey_store.changelog)
    epochs = [at.epoch for at in follower.positions]
    for app in APPS:
        await valkey_store.apps.create(app, 1)
    ended, draw = asyncio.Event(), random.Random(SEED)

    async def write() -> None:
        while not ended.is_set():
            await write_at_random(valkey_store, draw, 1)

    writing = [asyncio.create_task(write()) for _ in range(8)]
    await _until_changed(valkey_store, 200)
    content = await backed_up(valkey_store)
    await _until_changed(valkey_store, 50)
    ended.set()
    await asyncio.gather(*writing)
    _, end, _, _ = read_through(content)
    assert [epoch for epoch, _, _ in end.heads] == epochs
    expected = await _facts_at(valkey_store, [seq for _, seq, _ in end.heads], epochs)
    redis_server.client.flushall()
    await restored(redis_server.url, content)
    found = await snapshot_facts(valkey_store.changelog)
    assert (found.users, found.lists) == (expected.users, expected.lists)


async def test_facts_that_change_too_fast_end_the_backup(valkey_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_module, "MAX_CHANGED", 3)
    source = BackupSource(valkey_store)
    with pytest.raises(Unavailable, match="more than 3 Users changed meanwhile: try at a quieter time"):
        async for _ in source.records():
            await valkey_store.bans.impose("default", [b"u%d" % n for n in range(5)], 5_000, 1)


async def test_facts_that_never_rest_end_the_backup(valkey_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_module, "LAST_CHANGES", 2)
    monkeypatch.setattr(backup_module, "MAX_ROUNDS", 5)
    source = BackupSource(valkey_store)
    with pytest.raises(Unavailable, match="facts change faster than they are read: try at a quieter time"):
        async for _ in source.records():
            await valkey_store.bans.impose("default", [b"u%d" % n for n in range(200)], 5_000, 1)


async def test_long_streams_are_read_in_pages(
    valkey_store: Store, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(valkey_store, random.Random(SEED), 100)
    whole = await backed_up(valkey_store)
    monkeypatch.setattr(backup_module, "STREAM_PAGE", 2)
    monkeypatch.setattr(backup_module, "MAX_ROWS", 3)
    paged = await backed_up(valkey_store)
    before = dump(redis_server)
    assert read_through(paged)[1].entries == read_through(whole)[1].entries
    redis_server.client.flushall()
    await restored(redis_server.url, paged)
    assert dump(redis_server) == before


async def test_an_interrupted_restore_is_repeated_with_the_same_file(
    valkey_store: Store, redis_server: RedisServer
) -> None:
    await valkey_store.apps.remove("default", 1)
    await fill(valkey_store, random.Random(SEED), 40)
    groups = [Group(b"o%d" % n, [b"m%d" % m for m in range(100)]) for n in range(200)]
    for first in range(0, 200, 50):
        await valkey_store.lists.add_many("shop", ListKind.BLACKLIST, groups[first : first + 50], 1, 100)
    before, content = dump(redis_server), await backed_up(valkey_store)
    redis_server.client.flushall()
    await restored(redis_server.url, content, cut_after=1)
    with pytest.raises(StoreUnavailable, match=r"a backup is being restored into .*repeat `gate restore`"):
        await Store.connect(redis_server.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    with pytest.raises(StoreUnavailable, match="is being restored"):
        await valkey_store.changelog.prepare()
    other = await _another_file(content)
    with pytest.raises(NotEmpty):
        await restored(redis_server.url, other)
    assert (await restored(redis_server.url, content)).is_repeated
    assert dump(redis_server) == before
    await valkey_store.changelog.prepare()


async def test_a_redis_with_facts_is_refused_and_left_alone(valkey_store: Store, redis_server: RedisServer) -> None:
    content = await backed_up(valkey_store)
    await valkey_store.apps.create(AppFacts(key="shop", name="Shop", secrets=("s",)), 1)
    before = dump(redis_server)
    with pytest.raises(NotEmpty, match=r"is not empty: it holds 2 Apps \(.*shop.*\)\. A restore needs an empty Redis"):
        await restored(redis_server.url, content)
    await valkey_store.bans.impose("shop", [b"ann"], 5_000, 1)
    with pytest.raises(NotEmpty, match="facts of Users, such as ann of App shop"):
        await restored(redis_server.url, content)
    redis_server.client.delete("gate:{0}:apps")
    with pytest.raises(NotEmpty, match="0 Apps and facts of Users"):
        await restored(redis_server.url, content)
    assert {key: found for key, found in dump(redis_server).items() if key in before} == {
        key: found for key, found in before.items() if key != b"gate:{0}:apps"
    }


async def test_a_deployment_of_another_number_is_named(valkey_store: Store, redis_server: RedisServer) -> None:
    content = await backed_up(valkey_store)
    redis_server.client.flushall()
    empty = await Store.connect(redis_server.url, partitions=3, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    await empty.aclose()
    with pytest.raises(NotEmpty, match="holds a deployment of 3 Partitions, not 8: omit the number, or empty"):
        await restored(redis_server.url, content, 8)
    assert (await restored(redis_server.url, content)).partitions == 3


async def test_the_audit_may_be_left_out(valkey_store: Store, redis_server: RedisServer) -> None:
    await valkey_store.bans.impose("default", [b"ann"], FOREVER_MS, 1, "spam", "joe")
    content = await backed_up(valkey_store, with_audit=False)
    redis_server.client.flushall()
    await restored(redis_server.url, content)
    assert not any(b"audit" in key for key in dump(redis_server))
    assert await valkey_store.bans.reasons("default", [b"ann"]) == [("spam", "joe")]


async def test_facts_of_an_app_that_was_removed_stay_away(valkey_store: Store, redis_server: RedisServer) -> None:
    await valkey_store.apps.create(AppFacts(key="shop", name="Shop", secrets=("s",)), 1)
    await valkey_store.bans.impose("shop", [b"ann"], FOREVER_MS, 1)
    source, stream = BackupSource(valkey_store), io.BytesIO()
    writer, is_first = BackupWriter(stream, Header(gate="0", made_at_ms=1, partitions=16)), True
    async for batch in source.records():
        if is_first:  # after the first batch of the scan
            await valkey_store.apps.remove("shop", 2)
        is_first = False
        for record in batch:
            writer.add(record)
    writer.finish(source.end())
    redis_server.client.flushall()
    await restored(redis_server.url, stream.getvalue())
    assert not any(b"shop" in key for key in redis_server.client.keys("gate:*"))


async def test_a_restore_through_sentinels(sentinel_setup: SentinelSetup) -> None:
    store = await Store.connect(sentinel_setup.url, deadline_ms=PATIENCE_MS, connect_ms=PATIENCE_MS)
    await fill(store, random.Random(SEED), 20)
    facts, content = await snapshot_facts(store.changelog), await backed_up(store)
    await store.client.read(("FLUSHALL",))
    await restored(sentinel_setup.url, content)
    assert await snapshot_facts(store.changelog) == facts
    await store.aclose()


async def test_a_revocation_ahead_of_time_still_holds(valkey_store: Store, redis_server: RedisServer) -> None:
    app = await valkey_store.apps.get("default")
    await valkey_store.users.register("default", [b"ann"], 1)
    await valkey_store.users.revoke_tokens("default", [b"ann"], 60_000, 1)
    content = await backed_up(valkey_store)
    redis_server.client.flushall()
    await restored(redis_server.url, content)
    with pytest.raises(TokensHeld):
        await valkey_store.users.enrol_for_token(app, b"ann", 2)


async def _another_file(content: bytes) -> bytes:
    """The same records, made at another moment: another checksum."""
    reader, stream = BackupReader(io.BytesIO(content)), io.BytesIO()
    writer = BackupWriter(stream, Header(gate="0", made_at_ms=2, partitions=reader.header.partitions))
    for records in reader.records():
        for record in records:
            writer.add(record)
    assert reader.end is not None
    writer.finish(reader.end)
    return stream.getvalue()


async def _until_changed(store: Store, count: int) -> None:
    first = sum(head.seq for head in await store.changelog.heads())
    while sum(head.seq for head in await store.changelog.heads()) < first + count:
        await asyncio.sleep(0)


async def _facts_at(store: Store, seqs: list[int], epochs: list[str]) -> Facts:
    """The sum of all Changes up to these numbers."""
    facts, positions = Facts(), [NOWHERE._replace(epoch=epoch) for epoch in epochs]
    while any(at.seq < seq for at, seq in zip(positions, seqs, strict=True)):
        for partition, changes in sorted((await store.changelog.read(positions, 10)).items()):
            for change in changes:
                positions[partition] = Position(epochs[partition], change.seq, change.write_id)
                if change.seq <= seqs[partition]:
                    facts.apply(change)
    return facts


async def _audits(store: Store) -> list[tuple[object, ...]]:
    """All entries without their place, which depends on the number of Partitions."""
    found: list[tuple[object, ...]] = []
    for app in APPS:
        cursor: str | None = None
        while True:
            page, cursor = await store.audit.page(app.key, 1_000, cursor=cursor)
            found += [(entry.at_ms, *entry[3:]) for entry in page]
            if cursor is None:
                break
    return sorted(found, key=repr)
