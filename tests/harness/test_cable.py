"""The cable between a real client and a real server: whole, cut, mended, frozen, slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.harness.cable import Cable
from tests.harness.ports import free_port
from tests.harness.servers import RedisServer
from tests.harness.waiting import wait_until, wait_until_async

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
