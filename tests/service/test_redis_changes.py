"""What changes about Redis while a node runs is logged when it changes, once; and a Redis that evicts is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command
from tests.service.running import readyz, refused
from tests.service.test_refusals import is_one_line

NOTICED_WITHIN_S = 20


def warnings(service: GateService) -> str:
    return str(readyz(service)[1].get("warnings", ""))


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_may_evict_is_refused(tmp_path: Path, private_redis: RedisServer, policy: str) -> None:
    private_redis.client.config_set("maxmemory-policy", policy)
    refusal = refused(tmp_path / "data", "--redis", private_redis.url)
    is_one_line(refusal, 1, policy, "CONFIG SET maxmemory-policy noeviction", "--allow-eviction")


def test_a_redis_of_presence_that_may_evict_is_refused(
    tmp_path: Path, private_redis: RedisServer, redis_server: RedisServer
) -> None:
    private_redis.client.config_set("maxmemory-policy", "allkeys-lfu")
    refusal = refused(tmp_path / "data", "--redis", redis_server.url, "--presence-redis", private_redis.url)
    is_one_line(refusal, 1, "allkeys-lfu", str(private_redis.port), "--allow-eviction")


def test_what_changes_is_logged_once(start_service: Services, private_redis: RedisServer) -> None:
    private_redis.client.config_set("maxmemory-policy", "allkeys-lru")
    service = start_service.start("--allow-eviction", redis_url=private_redis.url)
    wait_until(lambda: "maxmemory-policy allkeys-lru" in warnings(service), NOTICED_WITHIN_S, "the warning")
    private_redis.client.config_set("maxmemory-policy", "noeviction")
    service.wait_for_output("evicts nothing again", NOTICED_WITHIN_S)
    private_redis.client.config_set("maxmemory-policy", "allkeys-random")
    wait_until(lambda: "allkeys-random" in warnings(service), NOTICED_WITHIN_S, "the second warning")
    assert service.output.count("maxmemory-policy allkeys-random") == 1
    private_redis.client.config_set("maxmemory-policy", "noeviction")

    private_redis.client.config_set("requirepass", "another")
    private_redis.client.client_kill_filter(_type="normal", skipme=True)
    service.wait_for_output("NOAUTH", NOTICED_WITHIN_S)
    with redis.Redis(port=private_redis.port, password="another") as healer:
        healer.config_set("requirepass", "")
    service.wait_for_output("Redis can be used again", NOTICED_WITHIN_S)
    assert service.output.count("Redis can't be used") <= 2, "the closed connection, then what is answered"

    private_redis.restart()
    service.wait_for_output("Redis is another server now, or another run of it", NOTICED_WITHIN_S)


def test_a_node_that_waits_logs_what_it_waits_for_when_that_changes(
    start_service: Services, private_redis: RedisServer
) -> None:
    service = start_service.start(redis_url=private_redis.url)
    service.stop()
    private_redis.client.config_set("requirepass", "another")
    service = start_service.start(data=service.data, redis_url=private_redis.url, wait=False)
    service.wait_for_output("gate serves checks from its Replica; waiting for Redis", NOTICED_WITHIN_S)
    assert "NOAUTH" in service.output and "Redis can't be used" not in service.output
    private_redis.kill()
    service.wait_for_output("Redis can't be used", NOTICED_WITHIN_S)
    private_redis.restart()
    service.wait_for_output("gate ready", NOTICED_WITHIN_S)


def test_what_changes_about_the_redis_of_presence_is_logged(
    start_service: Services, private_redis: RedisServer, redis_server: RedisServer
) -> None:
    service = start_service.start("--presence-redis", private_redis.url, redis_url=redis_server.url)
    private_redis.client.config_set("maxmemory-policy", "allkeys-lru")
    service.wait_for_output("the Redis of Presence needs attention", NOTICED_WITHIN_S)
    wait_until(lambda: "may evict facts" in warnings(service), NOTICED_WITHIN_S, "the warning")
    private_redis.client.execute_command("ACL", "SETUSER", "default", "-hscan")
    wait_until(lambda: "lacks +hscan" in warnings(service), NOTICED_WITHIN_S, "the warning")


def test_an_index_that_was_evicted_is_found(
    start_service: Services, private_redis: RedisServer, tmp_path: Path
) -> None:
    service = start_service.start("--partitions", "1", redis_url=private_redis.url)
    gate, key = Command(service.data, redis=private_redis.url), service.credentials.app_key
    for user in ("ann", "bob"):
        gate("ban", user, "--for", "1h")
    assert gate.json("replica", "verify")["indexes"] == {"entries": 2, "differences": 0, "first": []}
    private_redis.client.delete(f"gate:{{0}}:bans:{key}")
    private_redis.client.zadd(f"gate:{{0}}:gone:{key}", {"cid": 7})
    report = gate("replica", "verify", status=1).out
    assert "the Replica equals Redis" in report
    assert "3 index entries differ from the facts" in report
    assert "bans: ann" in report and "gone: cid" in report
    found = gate.json("replica", "verify", status=1)
    assert (found["equal"], found["differences"], found["indexes"]["differences"]) == (False, 0, 3)
    private_redis.client.delete(f"gate:{{0}}:gone:{key}")
    gate("export", tmp_path / "facts.ndjson")
    gate("import", tmp_path / "facts.ndjson")
    assert gate.json("replica", "verify")["equal"]
