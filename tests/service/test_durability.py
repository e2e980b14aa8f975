"""`--durability` of a running service: what HTTP and the command line answer, what the doctor and the metrics say."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command
from tests.service.running import get, refused
from tests.service.test_refusals import is_one_line

ONLINE_TIMEOUT_S = 15.0
LATE = "durability replica was not reached: fewer than 1 replica acknowledged the write within"


@pytest.fixture
def replica(private_redis: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    private_redis.client.config_set("repl-diskless-sync-delay", 0)
    follow = ["--replicaof", "127.0.0.1", str(private_redis.port)]
    server = RedisServer.start("valkey-9", tmp_path / "replica", extra=follow)

    def is_online() -> bool:
        return bool(private_redis.client.info("replication").get("slave0", {}).get("state") == "online")

    wait_until(is_online, ONLINE_TIMEOUT_S, "the replica to be online")
    yield server
    server.kill()


def post(service: GateService, path: str, body: object) -> tuple[dict[str, str], Any]:
    """As the App of `credentials.json`: the answer's headers and body."""
    known = service.credentials
    pair = base64.b64encode(f"{known.app_key}:{known.app_secret}".encode()).decode()
    headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/json"}
    request = urllib.request.Request(service.http + path, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        return dict(response.headers), json.loads(response.read())


def test_a_write_says_which_durability_it_has_not_reached(
    start_service: Services, private_redis: RedisServer, replica: RedisServer
) -> None:
    service = start_service.start("--durability", "replica", redis_url=private_redis.url)
    command = Command(service.data)
    headers, body = post(service, "/v1/bans", {"users": ["bob"], "seconds": 60})
    assert (headers["X-Gate-Applied"], body["applied"], "pending_reason" in body) == ("all", "all", False)
    assert "replica (1); 1 replica connected, min-replicas-to-write 0" in command("doctor").out
    with replica.paused():
        headers, body = post(service, "/v1/bans", {"users": ["eve"], "seconds": 60})
        assert (headers["X-Gate-Applied"], body["applied"]) == ("pending", "pending")
        assert body["pending_reason"] == headers["X-Gate-Pending-Reason"]
        assert body["pending_reason"].startswith(LATE)
        shown = command("ban", "zoe", "--for", "1m")
        assert LATE in shown.out
        as_json = command.json("mute", "zoe", "--for", "1m", "--json")
        assert (as_json["applied"], as_json["pending_reason"].startswith(LATE)) == ("pending", True)
        assert command("check", "zoe", "bob", status=1).out.startswith("sender-banned"), (
            "effective here, whatever its durability"
        )
    assert "gate_write_durability_late_total 1.0" in get(service, "/metrics")[1]
    assert service.output.count("writes are pending for their durability") == 1
    replica.kill()

    def is_seen() -> bool:
        return bool(private_redis.client.info("replication")["connected_slaves"] == 0)

    wait_until(is_seen, ONLINE_TIMEOUT_S, "the replica's end to be seen")
    doctor = command("doctor", "--json", status=1)
    (finding,) = [one for one in doctor.json["findings"] if one["subject"] == "durability"]
    assert finding["level"] == "fail"
    assert finding["found"].startswith(
        "replica (1); 0 replicas connected, min-replicas-to-write 0, appendfsync everysec"
    )


def test_a_start_that_could_never_acknowledge_is_refused(private_redis: RedisServer, tmp_path: Path) -> None:
    embedded = refused(tmp_path / "a", "--durability", "replica")
    is_one_line(embedded, 2, "--durability replica", "no replicas", "--redis")
    no_log = refused(tmp_path / "b", "--redis", private_redis.url, "--durability", "fsync")
    is_one_line(no_log, 1, "--durability fsync", "appendonly is no: set it to yes")
    unknown = refused(tmp_path / "c", env={"GATE_DURABILITY": "disk"})
    is_one_line(unknown, 2, "GATE_DURABILITY", "local, fsync, replica")


def test_the_embedded_server_has_every_write_on_disk(start_service: Services) -> None:
    service = start_service.start("--durability", "fsync")
    _, body = post(service, "/v1/bans", {"users": ["bob"], "seconds": 60})
    assert body["applied"] == "all"
