"""What an acknowledged write survives, on real servers: a primary with replicas, a slow disk, servers that can't confirm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from gate.errors import CannotStart, StoreUnavailable
from gate.store import keys
from gate.store.acks import Acknowledged, Acknowledger
from gate.store.durability import Durability, require
from gate.store.store import Store
from gate.store.writer import WriteReceipt
from harness.cable import Cable
from harness.registry import settle
from harness.sentinels import SentinelSetup
from harness.servers import Flavor, RedisServer, server_binary
from harness.slow_disk import SlowDisk, can_compile
from harness.waiting import TIMER_EARLY_S, wait_until, wait_until_async
from tests.store.conftest import APP, PATIENCE_MS

ONLINE_TIMEOUT_S = 15.0
BRIEF_MS = 300
NOW = 1_000


@dataclass
class Site:
    """A primary, and its replicas, each behind a cable."""

    primary: RedisServer
    replicas: list[RedisServer]
    cables: list[Cable]

    def wait_online(self, many: int) -> None:
        def online() -> bool:
            seen = self.primary.client.info("replication")
            return [seen.get(f"slave{at}", {}).get("state") for at in range(many)] == ["online"] * many

        wait_until(online, ONLINE_TIMEOUT_S, f"{many} replicas to be online")


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    servers: list[RedisServer] = []

    def make(flavor: Flavor, *extra: str, aof: bool = False) -> RedisServer:
        servers.append(RedisServer.start(flavor, tmp_path / f"redis-{len(servers)}", aof=aof, extra=extra))
        return servers[-1]

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
def site(redis_flavor: Flavor, make_server: Callable[..., RedisServer]) -> Iterator[Site]:
    primary = make_server(redis_flavor)
    cables = [Cable(primary.port) for _ in range(2)]
    # Without a delay the primary waits 5 s for more replicas before it sends its data.
    primary.client.config_set("repl-diskless-sync-delay", 0)
    replicas = [make_server(redis_flavor, "--replicaof", "127.0.0.1", str(cable.port)) for cable in cables]
    found = Site(primary, replicas, cables)
    found.wait_online(2)
    yield found
    for cable in cables:
        cable.close()


@asynccontextmanager
async def opened(server: RedisServer, durability: Durability) -> AsyncIterator[tuple[Store, Acknowledger]]:
    """A Store and its Acknowledger on a server without live nodes: only durability remains to be waited for."""
    async with opened_at(server.url, durability, PATIENCE_MS) as both:
        yield both


@asynccontextmanager
async def opened_at(
    url: str, durability: Durability, deadline_ms: int | None = None
) -> AsyncIterator[tuple[Store, Acknowledger]]:
    """The same, by URL."""
    store = await Store.connect(url, deadline_ms=deadline_ms, connect_ms=deadline_ms)
    acks = Acknowledger(store, None, durability)
    try:
        await settle(store)
        await acks.start()
        yield store, acks
    finally:
        await acks.aclose()
        await store.aclose()


async def ban(store: Store, user: bytes = b"bob") -> WriteReceipt:
    return await store.bans.impose(APP, [user], 5_000, NOW)


def banned(server: RedisServer, partitions: int) -> set[bytes]:
    """Every banned User on this server."""
    found: set[bytes] = set()
    for partition in range(partitions):
        found.update(cast("list[bytes]", server.client.zrange(keys.bans(partition, APP).decode(), 0, -1)))
    return found


async def test_what_a_replica_acknowledged_outlives_the_primary(site: Site) -> None:
    site.cables[1].cut()
    site.cables[0].delay_ms = 30  # the primary answers each write before the replica receives it
    async with opened(site.primary, Durability("replica", 1)) as (store, acks):
        acknowledged: set[bytes] = set()

        async def write_for_ever(writer: int) -> None:
            for number in range(100_000):
                user = b"%d-%d" % (writer, number)
                written = await ban(store, user)
                if (await acks.acknowledge(written, 5_000)).applied == "all":
                    acknowledged.add(user)

        writers = [asyncio.create_task(write_for_ever(each)) for each in range(8)]
        async with asyncio.timeout(30):
            while len(acknowledged) < 60:
                await asyncio.sleep(0.005)
        at_kill = set(acknowledged)
        site.primary.kill()
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        site.replicas[0].client.execute_command("REPLICAOF", "NO", "ONE")
        assert at_kill - banned(site.replicas[0], store.partitions) == set()


async def test_a_failover_by_sentinels_loses_no_durable_write(sentinel_setup: SentinelSetup) -> None:
    """One replica is enough there: Sentinels promote the most advanced one."""
    old = sentinel_setup.primary
    async with opened_at(sentinel_setup.url, Durability("replica", 1)) as (store, acks):
        durable: set[bytes] = set()

        async def write_for_ever(writer: int) -> None:
            for number in range(100_000):
                user = b"%d-%d" % (writer, number)
                try:
                    written = await ban(store, user)
                except StoreUnavailable:
                    await asyncio.sleep(0.01)
                    continue
                if not (await acks.acknowledge(written, 1_000)).late:
                    durable.add(user)

        writers = [asyncio.create_task(write_for_ever(each)) for each in range(8)]
        try:
            await wait_until_async(lambda: len(durable) > 500, ONLINE_TIMEOUT_S, "writes to be durable")
            old.kill()
            primary = await asyncio.to_thread(sentinel_setup.wait_switched, old)
            many = len(durable)
            await wait_until_async(lambda: len(durable) > many + 100, ONLINE_TIMEOUT_S, "writes to be durable again")
        finally:
            for writer in writers:
                writer.cancel()
            await asyncio.gather(*writers, return_exceptions=True)
        assert durable - banned(primary, store.partitions) == set()


async def test_a_paused_replica_is_pending_in_time_and_never_all(site: Site) -> None:
    async with opened(site.primary, Durability("replica", 2)) as (store, acks):
        assert await acks.acknowledge(await ban(store), PATIENCE_MS) == Acknowledged("all")
        with site.replicas[0].paused():
            begun_s = time.monotonic()
            results = await asyncio.gather(*[acks.acknowledge(await ban(store), BRIEF_MS) for _ in range(5)])
            assert BRIEF_MS / 1_000 - TIMER_EARLY_S <= time.monotonic() - begun_s < 5
        assert {result.applied for result in results} == {"pending"}
        assert {result.late for result in results} == {
            "durability replica was not reached: fewer than 2 replicas acknowledged the write within 300 ms"
        }
        assert await acks.acknowledge(await ban(store), PATIENCE_MS) == Acknowledged("all")


async def test_an_answer_that_counts_too_few_is_none(site: Site) -> None:
    """A server may end the wait before its time, with the count so far."""
    async with opened(site.primary, Durability("replica", 2)) as (store, acks):
        with site.replicas[0].paused():
            waiting = asyncio.create_task(acks.acknowledge(await ban(store), PATIENCE_MS))
            for _ in range(3):
                blocked = await until_one_waits(site.primary)
                site.primary.client.client_unblock(blocked)
            await until_one_waits(site.primary)
            assert not waiting.done()
        assert (await waiting).applied == "all"


async def until_one_waits(server: RedisServer) -> int:
    """The id of the client that waits for replicas."""
    found: list[int] = []

    def waits() -> bool:
        found[:] = [
            int(one["id"]) for one in server.client.client_list() if "b" in one["flags"] and one["cmd"] == "wait"
        ]
        return bool(found)

    await wait_until_async(waits, ONLINE_TIMEOUT_S, "a client to wait for replicas")
    return found[0]


async def test_one_replica_is_enough_where_one_is_asked_for(site: Site) -> None:
    async with opened(site.primary, Durability("replica", 1)) as (store, acks):
        with site.replicas[0].paused():
            assert await acks.acknowledge(await ban(store), PATIENCE_MS) == Acknowledged("all")


async def test_writes_go_on_while_replicas_are_waited_for(site: Site) -> None:
    """A Ban must reach the nodes at once, regardless of its durability."""
    async with opened(site.primary, Durability("replica", 2)) as (store, acks):
        with site.replicas[0].paused():
            waiting = asyncio.create_task(acks.acknowledge(await ban(store), 2_000))
            await until_one_waits(site.primary)
            begun_s = time.monotonic()
            for _ in range(50):
                await ban(store)
            assert not waiting.done()
            assert time.monotonic() - begun_s < 1
            assert (await waiting).applied == "pending"


async def test_one_question_is_that_of_all_who_wait(site: Site) -> None:
    async with opened(site.primary, Durability("replica", 2)) as (store, acks):
        site.cables[0].delay_ms = 20

        async def write(number: int) -> Acknowledged:
            return await acks.acknowledge(await ban(store, b"%d" % number), PATIENCE_MS)

        assert set(await asyncio.gather(*map(write, range(200)))) == {Acknowledged("all")}
        assert site.primary.client.info("commandstats")["cmdstat_wait"]["calls"] < 20


async def test_a_lost_connection_between_write_and_question_is_asked_again(site: Site) -> None:
    async with opened(site.primary, Durability("replica", 2)) as (store, acks):
        with site.replicas[0].paused():
            written = await ban(store)
            waiting = asyncio.create_task(acks.acknowledge(written, PATIENCE_MS))
            await until_one_waits(site.primary)
            site.primary.client.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.3)
            assert not waiting.done(), "the new connection has written nothing that the replica must have"
        assert (await waiting).late == ""


async def test_a_server_that_came_back_confirms_nothing_from_before(
    redis_flavor: Flavor, make_server: Callable[..., RedisServer]
) -> None:
    server = make_server(redis_flavor, "--appendfsync", "always", aof=True)
    async with opened(server, Durability("fsync")) as (store, acks):
        written = await ban(store)
        server.restart()
        applied, late = await acks.acknowledge(written, 3_000)
        assert applied == "pending"
        assert late == "durability fsync is unknown: the server that took the write was restarted or replaced"


async def test_data_that_was_lost_confirms_nothing(site: Site) -> None:
    async with opened(site.primary, Durability("replica", 1)) as (store, acks):
        written = await ban(store)
        site.primary.client.flushall()
        assert (await acks.acknowledge(written, BRIEF_MS)).applied == "pending"


async def test_a_server_that_forgot_its_scripts_is_asked_again(site: Site) -> None:
    async with opened(site.primary, Durability("replica", 2)) as (store, acks):
        for _ in range(2):
            assert (await acks.acknowledge(await ban(store), PATIENCE_MS)).applied == "all"
            site.primary.client.script_flush()


async def test_fsync_is_confirmed_where_each_reply_waits_for_it(
    redis_flavor: Flavor, make_server: Callable[..., RedisServer]
) -> None:
    server = make_server(redis_flavor, "--appendfsync", "always", aof=True)
    async with opened(server, Durability("fsync")) as (store, acks):
        await require(store.client, Durability("fsync"))
        assert await acks.acknowledge(await ban(store), PATIENCE_MS) == Acknowledged("all")


async def test_fsync_that_was_switched_off_while_it_ran_is_noticed(make_server: Callable[..., RedisServer]) -> None:
    server = make_server("redis-7", "--appendfsync", "always", aof=True)
    async with opened(server, Durability("fsync")) as (store, acks):
        server.client.config_set("appendfsync", "everysec")
        applied, late = await acks.acknowledge(await ban(store), BRIEF_MS)
        assert applied == "pending"
        assert "appendfsync is everysec" in late


@pytest.fixture
def slow_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RedisServer, SlowDisk]]:
    if not can_compile():
        pytest.skip("the slow disk needs gcc")
    disk = SlowDisk(tmp_path, server_binary("valkey-9"))
    monkeypatch.setattr("harness.servers.server_binary", lambda flavor: disk.program)
    server = RedisServer.start("valkey-9", tmp_path / "redis", aof=True, extra=["--appendfsync", "always"])
    yield server, disk
    server.kill()


async def test_fsync_waits_for_a_slow_disk(slow_server: tuple[RedisServer, SlowDisk]) -> None:
    server, disk = slow_server
    async with opened(server, Durability("fsync")) as (store, acks):
        disk.slow(500)
        begun_s = time.monotonic()
        assert (await acks.acknowledge(await ban(store), PATIENCE_MS)).applied == "all"
        assert time.monotonic() - begun_s > 0.5 - TIMER_EARLY_S


async def test_waitaof_is_asked_behind_a_mark(
    slow_server: tuple[RedisServer, SlowDisk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Redis 8, which is not available here: by a Valkey that syncs each write without reporting it."""

    async def trusts(*_: object) -> bool:
        return True

    monkeypatch.setattr("gate.store.durability._trusts_waitaof", trusts)
    server, disk = slow_server
    server.client.execute_command("ACL", "SETUSER", "default", "-config")
    async with opened(server, Durability("fsync")) as (store, acks):
        await require(store.client, Durability("fsync"))
        assert await acks.acknowledge(await ban(store), PATIENCE_MS) == Acknowledged("all")
        written = await ban(store)
        disk.slow(1_500)
        applied, late = await acks.acknowledge(written, BRIEF_MS)
        assert applied == "pending"
        assert late == (
            "durability fsync was not reached: the server did not confirm that the write is on its disk within 300 ms"
        )
        disk.mend()
        assert (await acks.acknowledge(written, PATIENCE_MS)).applied == "all"


async def test_waitaof_that_does_not_wait_is_not_asked(slow_server: tuple[RedisServer, SlowDisk]) -> None:
    """Valkey 9.1 with `everysec` reports a write as on its disk before it is (redis/redis#13793)."""
    server, disk = slow_server
    async with opened(server, Durability("fsync")) as (store, acks):
        server.client.config_set("appendfsync", "everysec")
        disk.slow(1_500)
        applied, late = await acks.acknowledge(await ban(store), BRIEF_MS)
        assert applied == "pending"
        assert "appendfsync is everysec: set it to always" in late


@pytest.mark.parametrize(
    ("flavor", "options", "aof", "durability", "said"),
    [
        ("redis-7", (), True, "fsync", "appendfsync is everysec: set it to always"),
        ("redis-6.2", (), True, "fsync", "appendfsync is everysec: set it to always"),
        ("redis-7", ("--appendfsync", "always"), False, "fsync", "appendonly is no: set it to yes"),
        ("redis-7", ("--appendfsync", "always", "--no-appendfsync-on-rewrite", "yes"), True, "fsync",
         "no-appendfsync-on-rewrite is yes: set it to no"),
        ("valkey-9", (), True, "fsync", "appendfsync is everysec: set it to always"),
        ("valkey-9", ("--appendfsync", "always"), False, "fsync", "appendonly is no: set it to yes"),
    ],
)  # fmt: skip
async def test_a_server_that_cannot_confirm_is_refused_in_one_line(
    make_server: Callable[..., RedisServer],
    flavor: Flavor,
    options: tuple[str, ...],
    aof: bool,
    durability: str,
    said: str,
) -> None:
    server = make_server(flavor, *options, aof=aof)
    store = await Store.connect(server.url)
    with pytest.raises(CannotStart) as refusal:
        await require(store.client, Durability(durability, 1))  # type: ignore[arg-type]
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    await store.aclose()


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("replica", "grant it with ACL SETUSER gate +wait"),
        ("fsync", "allow CONFIG GET (ACL +config|get), or use Redis 8"),
    ],
)
async def test_a_right_that_is_lacking_is_named(make_server: Callable[..., RedisServer], level: str, said: str) -> None:
    server = make_server("valkey-9", "--appendfsync", "always", aof=True)
    server.client.execute_command("ACL", "SETUSER", "gate", "on", ">x", "~*", "&*", "+@all", "-wait", "-config")
    store = await Store.connect(f"redis://gate:x@127.0.0.1:{server.port}/0")
    with pytest.raises(CannotStart, match="NOPERM") as refusal:
        await require(store.client, Durability(level, 1))  # type: ignore[arg-type]
    assert said in str(refusal.value)
    await store.aclose()
