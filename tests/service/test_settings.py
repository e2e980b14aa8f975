"""Settings of the deployment: a node that differs is refused by name, and all of them together may change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.store import keys, presence_keys
from harness.cable import Cable
from harness.servers import RedisServer
from harness.service import Services
from harness.waiting import wait_until, wait_until_async
from harness.websocket import Refused, connect
from tests.faults.node import Node
from tests.service.running import readyz, refused
from tests.service.test_refusals import is_one_line

PUT_BACK_TIMEOUT_S = 30.0


@pytest.fixture
def presence_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer.start("valkey-9", tmp_path / "presence-redis")
    yield server
    server.stop()


def recorded(server: RedisServer, name: str) -> bytes | None:
    found: bytes | None = server.client.hget(keys.settings().decode(), name)  # type: ignore[assignment]
    return found


def test_a_node_whose_settings_differ_is_refused_by_name(
    start_service: Services, private_redis: RedisServer, presence_redis: RedisServer, tmp_path: Path
) -> None:
    first = start_service.start(redis_url=private_redis.url)
    on_redis = ("--redis", private_redis.url)
    ttl = refused(tmp_path / "a", *on_redis, "--lease-ttl-ms", "45000")
    is_one_line(ttl, 2, "--lease-ttl-ms 45000", "15000", "stop every node")
    presence = refused(tmp_path / "b", *on_redis, "--presence-redis", presence_redis.url)
    is_one_line(presence, 2, "--presence-redis", "stop every node")
    same_by_another_name = start_service.start(
        "--presence-redis", private_redis.url, "--lease-ttl-ms", "15000", redis_url=private_redis.url
    )
    assert same_by_another_name.stop() == 0
    first.kill_all()
    changed = start_service.start(
        "--presence-redis", presence_redis.url, "--lease-ttl-ms", "45000", redis_url=private_redis.url, data=first.data
    )
    assert recorded(private_redis, "lease-ttl-ms") == b"45000"
    assert recorded(private_redis, "presence") == presence_redis.client.get(presence_keys.ID.decode())
    assert changed.stop() == 0


async def test_no_session_is_opened_in_a_wrong_presence_unreachable_at_the_start(
    start_service: Services, private_redis: RedisServer, presence_redis: RedisServer
) -> None:
    start_service.start(redis_url=private_redis.url)
    with Cable(presence_redis.port) as cable:
        cable.cut()
        other = await asyncio.to_thread(start_service.start, "--presence-redis", cable.url, redis_url=private_redis.url)
        node = Node(other, private_redis.url)
        token = (await asyncio.to_thread(node.gate, "user", "token", "ann")).out.strip()
        for is_away in (True, False):
            with pytest.raises(Refused) as refusal:
                await connect(other.http, token, platform="Web")
            assert refusal.value.status == 503
            if is_away:
                cable.mend()
                await wait_until_async(
                    lambda: "leads to another server" in str(readyz(other)[1]), PUT_BACK_TIMEOUT_S, "the difference"
                )
        assert not presence_redis.client.keys("gate:{*}:leases")


def test_a_presence_that_was_lost_is_the_same_while_a_node_runs(
    start_service: Services, private_redis: RedisServer, presence_redis: RedisServer, tmp_path: Path
) -> None:
    options = ("--presence-redis", presence_redis.url)
    start_service.start(*options, redis_url=private_redis.url)
    name = presence_keys.ID.decode()
    known = presence_redis.client.get(name)
    assert known is not None and recorded(private_redis, "presence") == known
    presence_redis.restart_empty()
    wait_until(lambda: presence_redis.client.get(name) == known, PUT_BACK_TIMEOUT_S, "the id to be put back")
    start_service.start(*options, redis_url=private_redis.url)
    private_redis.client.delete(keys.settings().decode())
    wait_until(lambda: recorded(private_redis, "presence") == known, PUT_BACK_TIMEOUT_S, "the settings to be put back")
    assert recorded(private_redis, "lease-ttl-ms") == b"15000"
