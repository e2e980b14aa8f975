"""The cable between a real client and a real server: whole, cut, mended, frozen, slow."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.cable import Cable
from harness.ports import LOOPBACK, free_port
from harness.servers import RedisServer
from harness.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.any_keys
NEVER_AGAIN = Retry(NoBackoff(), 0)


@pytest.fixture
def cable(redis_server: RedisServer) -> Iterator[Cable]:
    with Cable(redis_server.port) as cable:
        yield cable


def client_through(cable: Cable, timeout_s: float = 5.0) -> redis.Redis:
    return redis.Redis.from_url(cable.url, socket_timeout=timeout_s, retry=NEVER_AGAIN)


def test_carries_large_values_both_ways(cable: Cable) -> None:
    value = bytes(range(256)) * 40_000
    client = client_through(cable)
    client.set("gate:test", value)
    assert client.get("gate:test") == value


def test_cut_drops_live_connections_and_refuses_new_ones(cable: Cable) -> None:
    client = client_through(cable)
    client.ping()
    assert cable.connection_count == 1
    cable.cut()
    assert cable.connection_count == 0
    with pytest.raises(redis.ConnectionError):
        client.ping()
    with pytest.raises(redis.ConnectionError, match="refused"):
        client_through(cable).ping()


def test_the_server_sees_the_cut_too(cable: Cable, redis_server: RedisServer) -> None:
    client = client_through(cable)
    client.client_setname("behind-the-cable")
    cable.cut()
    wait_until(
        lambda: "behind-the-cable" not in {one["name"] for one in redis_server.client.client_list()},
        2,
        "the server to drop the client",
    )


def test_mend_accepts_again_on_the_same_port(cable: Cable) -> None:
    port = cable.port
    with cable.cut_off(), pytest.raises(redis.ConnectionError):
        client_through(cable).ping()
    cable.mend()
    assert cable.port == port
    assert client_through(cable).ping()


def test_frozen_holds_every_byte_and_thaw_delivers_them(cable: Cable, redis_server: RedisServer) -> None:
    client = client_through(cable, timeout_s=0.1)
    client.set("gate:test", "before")
    with cable.frozen():
        with pytest.raises(redis.TimeoutError):
            client.set("gate:test", "held")
        with pytest.raises(redis.TimeoutError):
            client_through(cable, timeout_s=0.1).ping()
        assert redis_server.client.get("gate:test") == b"before"
    wait_until(lambda: redis_server.client.get("gate:test") == b"held", 10, "the held write to arrive")
    assert client_through(cable).ping()


def test_a_frozen_cable_can_be_cut(cable: Cable) -> None:
    client = client_through(cable)
    client.ping()
    cable.freeze()
    cable.cut()
    with pytest.raises(redis.ConnectionError):
        client.ping()


def test_delay_is_latency_and_not_throughput(cable: Cable) -> None:
    client = client_through(cable)
    client.ping()
    cable.delay_ms = 50
    started_s = time.monotonic()
    pipeline = client.pipeline(transaction=False)
    for number in range(500):
        pipeline.set("gate:test", str(number) * 1000)
    pipeline.execute()
    took_s = time.monotonic() - started_s
    assert 0.1 <= took_s < 2.0


def test_a_reply_before_the_close_arrives(cable: Cable) -> None:
    async def quit_over_raw_socket() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", cable.port)
        writer.write(b"PING\r\nQUIT\r\n")
        received = await reader.read(-1)
        writer.close()
        return received

    assert asyncio.run(quit_over_raw_socket()) == b"+PONG\r\n+OK\r\n"


def test_a_dead_upstream_resets_the_client() -> None:
    with Cable(free_port()) as cable, pytest.raises(redis.ConnectionError):
        client_through(cable).ping()


async def test_calls_work_from_inside_a_loop(cable: Cable) -> None:
    client = redis.asyncio.Redis.from_url(cable.url, retry=redis.asyncio.retry.Retry(NoBackoff(), 0))
    waiting = asyncio.ensure_future(client.xread({"gate:test": "$"}, block=0))
    await wait_until_async(lambda: cable.connection_count == 1, 10, "the client to connect")
    cable.cut()
    with pytest.raises(redis.ConnectionError):
        await waiting
    await client.aclose()


def test_an_open_connection_stays_where_it_was_when_the_cable_moves(cable: Cable, tmp_path: Path) -> None:
    old = client_through(cable)
    old.set("gate:test", "old")
    other = RedisServer.start("valkey-9", tmp_path)
    try:
        cable.point_to(other.port)
        assert old.get("gate:test") == b"old"
        assert client_through(cable).get("gate:test") is None
        cable.cut_every(1)
        assert old.get("gate:test") is None
    finally:
        other.stop()


def test_a_half_closed_connection_still_carries_what_is_sent(cable: Cable, redis_server: RedisServer) -> None:
    with socket.create_connection((LOOPBACK, cable.port), 5.0) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
        cable.half_close()
        assert client.recv(100) == b""
        client.sendall(b"SET gate:test one-way\r\n")
        wait_until(lambda: redis_server.client.get("gate:test") == b"one-way", 10, "the write to arrive")
        client.settimeout(0.1)
        assert client.recv(100) == b""


def test_one_connection_of_two_is_cut(cable: Cable) -> None:
    clients = [client_through(cable), client_through(cable)]
    before = [one.client_id() for one in clients]
    cable.cut_every(2)
    after = [one.client_id() for one in clients]
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)
