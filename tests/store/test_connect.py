from __future__ import annotations

import asyncio

import pytest

from gate.core.revision import DEFAULT_PARTITIONS
from gate.errors import InvalidConfig, StoreUnavailable
from gate.store import keys
from gate.store.address import parse_address
from gate.store.link import LinkLost, open_link
from gate.store.store import Store
from harness.ports import free_port
from harness.servers import RedisServer


async def connected(url: str, **options: int | None) -> int:
    store = await Store.connect(url, **options)  # type: ignore[arg-type]
    await store.ping()
    await store.aclose()
    return store.partitions


async def test_the_number_of_partitions_is_set_once(each_redis: RedisServer) -> None:
    assert await connected(each_redis.url, partitions=4) == 4
    assert await connected(each_redis.url) == 4
    assert await connected(each_redis.url, partitions=4) == 4
    with pytest.raises(InvalidConfig, match="4 Partitions, not 8"):
        await connected(each_redis.url, partitions=8)


async def test_without_a_wish_there_are_sixteen(each_redis: RedisServer) -> None:
    assert await connected(each_redis.url) == DEFAULT_PARTITIONS


async def test_two_first_starts_agree(each_redis: RedisServer) -> None:
    outcomes = await asyncio.gather(*(connected(each_redis.url, partitions=n) for n in (4, 8)), return_exceptions=True)
    assert sorted(map(str, map(type, outcomes))) == sorted(map(str, (int, InvalidConfig)))


@pytest.mark.parametrize("partitions", [-1, 1_025])
async def test_an_impossible_number_is_refused(redis_server: RedisServer, partitions: int) -> None:
    with pytest.raises(InvalidConfig, match="1 to 1024"):
        await connected(redis_server.url, partitions=partitions)


async def test_another_schema_is_refused(redis_server: RedisServer) -> None:
    await connected(redis_server.url)
    redis_server.client.hset(keys.meta(0), keys.META_SCHEMA, "9")
    with pytest.raises(InvalidConfig, match="schema 9"):
        await connected(redis_server.url)


async def test_no_server_listens(redis_server: RedisServer) -> None:
    with pytest.raises(StoreUnavailable, match="cannot reach redis://127"):
        await connected(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="cannot reach unix:///nowhere"):
        await connected("unix:///nowhere.sock")


async def test_a_password_is_used_and_never_shown(redis_server: RedisServer) -> None:
    redis_server.client.execute_command("ACL", "SETUSER", "gate", "on", ">s3cret%", "~gate:*", "&gate:*", "+@all")
    try:
        store = await Store.connect(f"redis://gate:s3cret%25@127.0.0.1:{redis_server.port}/0")
        assert store.url_shown == f"redis://gate:***@127.0.0.1:{redis_server.port}"
        await store.aclose()
        with pytest.raises(StoreUnavailable, match="WRONGPASS") as refused:
            await connected(f"redis://gate:wrong@127.0.0.1:{redis_server.port}")
        assert "wrong@" not in str(refused.value)
    finally:
        redis_server.client.execute_command("ACL", "DELUSER", "gate")


async def test_a_database_of_its_own(redis_server: RedisServer) -> None:
    assert await connected(f"redis://127.0.0.1:{redis_server.port}/3", partitions=2) == 2
    assert redis_server.client.dbsize() == 0


class OldServer(asyncio.Protocol):
    """A server of a version that no package provides any more; it knows PING and INFO."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if b"PING" in data:
            self.transport.write(b"+PONG\r\n")
        for _ in range(data.count(b"INFO")):
            self.transport.write(b"$44\r\n# Server\r\nredis_version:6.0.16\r\nredis_mode:x\r\n")


async def test_a_server_that_is_too_old_is_refused() -> None:
    server = await asyncio.get_running_loop().create_server(OldServer, "127.0.0.1", 0)
    with pytest.raises(InvalidConfig, match=r"Redis 6\.0\.16: 6\.2 or later"):
        await connected(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    server.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h", "redis://h:6379"),
        ("redis://:p%40ss@h:7/2", "redis://:***@h:7/2"),
        ("rediss://u:p@h:7", "rediss://u:***@h:7"),
        ("redis://[::1]:7", "redis://[::1]:7"),
        ("unix:///run/a%20b.sock?db=3", "unix:///run/a b.sock?db=3"),
    ],
)
def test_addresses_are_read_and_shown(url: str, shown: str) -> None:
    assert parse_address(url).shown == shown


def test_a_password_is_unquoted() -> None:
    assert parse_address("redis://:p%40ss@h").password == "p@ss"


@pytest.mark.parametrize(
    "url",
    ["", "localhost", "http://h", "redis://", "redis://h:port", "redis://h:99999", "redis://h/one", "unix://run/x",
     "unix://", "unix:///" + "x" * 120, "redis://:hunter2@h:port"],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        parse_address(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("socket_timeout=3", "unknown option socket_timeout: the options are db, connect_timeout_ms, timeout_ms,"),
        ("Pa55!=1", "unknown option: the options are"),
        ("timeout_ms=1s", "timeout_ms in the Redis URL must be a whole number from 10 to 30,000"),
        ("connect_timeout_ms=30001", "connect_timeout_ms in the Redis URL must be"),
        ("timeout_ms=", "timeout_ms in the Redis URL must be"),
        ("ssl_ca_certs=/ca.pem", "ssl_ca_certs, which is for rediss:// only"),
        ("timeout_ms=500&timeout_ms=600", "timeout_ms twice: give it once"),
        ("timeout_ms=\u0665\u0660\u0660", "timeout_ms in the Redis URL must be"),
    ],
)
def test_options_of_a_url_are_refused_by_name(query: str, named: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        parse_address(f"redis://h/0?{query}")
    assert named in str(refused.value)
    assert "Pa55" not in str(refused.value)


def test_a_key_without_its_certificate_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="give ssl_certfile as well"):
        parse_address("rediss://h/0?ssl_keyfile=/key.pem")


def test_limits_are_the_urls_or_the_defaults() -> None:
    given, default = parse_address("redis://h?connect_timeout_ms=2000&timeout_ms=3000"), parse_address("unix:///run/s")
    assert (given.connect_timeout_ms, given.timeout_ms) == (2_000, 3_000)
    assert (default.connect_timeout_ms, default.timeout_ms) == (500, 1_000)


async def test_a_replica_is_not_the_truth(private_redis: RedisServer) -> None:
    private_redis.client.replicaof("127.0.0.1", free_port())
    with pytest.raises(StoreUnavailable, match=r"is a replica of 127\.0\.0\.1:\d+ and takes no writes"):
        await connected(private_redis.url)


@pytest.mark.parametrize("before", ["hunter2", "gate:", ":", ""])
def test_a_url_whose_password_is_missing_is_refused(before: str) -> None:
    """The form of `redis://gate:$PASSWORD@h` without the variable, or with the password in the user's place."""
    with pytest.raises(InvalidConfig, match="no password before its @: write redis://:PASSWORD@HOST") as refused:
        parse_address(f"redis://{before}@h")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
async def test_a_missing_file_of_tls_is_named(option: str) -> None:
    with pytest.raises(LinkLost, match=f"{option} /none.pem in the URL of rediss://h:6379 can't be used: No such file"):
        await open_link(parse_address(f"rediss://h/0?{option}=/none.pem"), 500)
