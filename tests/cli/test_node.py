"""What the command line says of a node: the Replica's state, what is wrong, and what still works with things down."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cable import Cable
from harness.ports import free_port
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    """Its Replica is rebuilt."""
    return start_module_service.start()


def test_replica_status_verify_and_rebuild(gate: Command) -> None:
    gate("ban", "ann", "--permanent")
    status = gate.json("replica", "status")
    assert status == status | {"state": "current", "ready": True, "stale_ms": 0, "replicator_alive": True}
    assert len(status["applied"]) >= 1
    assert "current, ready, fresh" in gate("replica", "status").out
    assert gate.json("replica", "verify") == gate.json("replica", "verify") | {"equal": True, "differences": 0}
    assert "the Replica equals Redis" in gate("replica", "verify").out
    rebuilt = gate.json("replica", "rebuild")
    assert rebuilt["replicator_alive"] and Path(status["file"]).name != rebuilt["file"]
    gate("check", "ann", "bob", status=1)


def test_doctor_finds_a_healthy_service_healthy(service: GateService) -> None:
    gate = Command(service.data)
    address = service.http.removeprefix("http://")
    report = gate.json("doctor", "--http", address, "--resp", f"127.0.0.1:{service.resp_port}")
    assert report["ok"]
    levels = {finding["subject"]: finding["level"] for finding in report["findings"]}
    assert levels["Replica"] == levels["Redis"] == levels["credentials.json"] == "ok"
    assert levels[f"HTTP {address}"] == levels[f"RESP 127.0.0.1:{service.resp_port}"] == "ok"


def test_doctor_says_what_is_wrong_and_what_to_do(service: GateService) -> None:
    gate = Command(service.data)
    credentials = service.data / "credentials.json"
    credentials.chmod(0o644)
    try:
        swapped = (f"127.0.0.1:{service.resp_port}", service.http.removeprefix("http://"))
        report = gate("doctor", "--http", swapped[0], "--resp", swapped[1], status=1).out
    finally:
        credentials.chmod(0o600)
    assert "fail credentials.json: can be read by others (mode 644)" in report
    assert f"chmod 600 {credentials}" in report
    assert report.count("something else listens there") >= 1


def test_doctor_looks_at_the_redis_of_presence_too(service: GateService, private_redis: RedisServer) -> None:
    gate, where = (
        Command(service.data),
        ("--http", service.http.removeprefix("http://"), "--resp", f":{service.resp_port}"),
    )
    private_redis.client.config_set("maxmemory-policy", "allkeys-lru")
    there = gate("doctor", *where, "--presence-redis", private_redis.url, status=1).out
    assert "fail Presence Redis eviction: maxmemory-policy allkeys-lru: a full memory would drop Sessions" in there
    assert "warn Presence Redis persistence: append-only file off" in there
    private_redis.stop()
    away = gate("doctor", *where, "--presence-redis", private_redis.url, status=1).out
    assert "fail Presence Redis: " in away and "start it, or say --presence-redis URL" in away
    assert "fail Redis" not in there + away


def test_doctor_on_an_empty_directory(tmp_path: Path) -> None:
    report = Command(tmp_path / "nothing").json("doctor", "--http", f"127.0.0.1:{free_port()}", status=1)
    levels = {finding["subject"]: finding["level"] for finding in report["findings"]}
    assert levels["Redis"] == levels["Replica"] == "fail"


def test_nothing_here_is_status_3_in_one_line(tmp_path: Path) -> None:
    gate = Command(tmp_path / "nothing", "some-app")
    for arguments in (
        ["check", "a", "b"],
        ["bans"],
        ["ban", "a", "--permanent"],
        ["replica", "status"],
        ["app", "list"],
    ):
        result = gate(*arguments, status=3)
        assert result.out == ""
        assert len(result.err.splitlines()) == 1 and "gate serve" in result.err
    away = Command(tmp_path / "nothing", "some-app", f"redis://127.0.0.1:{free_port()}")
    for arguments in (["bans"], ["blacklist", "add", "a", "b"], ["app", "create", "x"], ["import", "-"]):
        assert len(away(*arguments, status=3).err.splitlines()) == 1


def test_no_app_is_named(tmp_path: Path) -> None:
    assert "say --app KEY" in Command(tmp_path)("bans", status=1).err


def test_a_redis_that_hangs_is_status_3_within_its_deadline(redis_server: RedisServer, tmp_path: Path) -> None:
    with Cable(redis_server.port) as cable:
        gate = Command(tmp_path, "some-app", cable.url)
        gate("app", "create", "x", "--key", "some-app")
        with cable.frozen():
            assert "gate: " in gate("bans", status=3).err


def test_a_write_without_any_node_is_in_and_says_so(redis_server: RedisServer, tmp_path: Path) -> None:
    gate = Command(tmp_path, "some-app", redis_server.url)
    gate("app", "create", "x", "--key", "some-app")
    assert "no node is live" in gate("ban", "ann", "--permanent").out
    assert [row["user"] for row in gate.json("bans")["bans"]] == ["ann"]


def test_checks_outlive_the_service_and_say_how_old_they_are(start_service: Services) -> None:
    service = start_service.start()
    gate = Command(service.data)
    gate("ban", "ann", "--permanent")
    service.stop()
    # Facts as young as the grace count as fresh, and a quick machine checks within it.
    wait_until(lambda: gate.json("replica", "status")["stale_ms"] > 0, 10, "the facts to count as stale")
    denied = gate("check", "ann", "bob", status=1)
    assert denied.out == "sender-banned\n"
    assert "these facts may be old" in denied.err
    gate("ban", "eve", "--permanent", status=3)
    assert gate.json("replica", "status")["replicator_alive"] is False
    assert "the next one to start will rebuild" in gate("replica", "rebuild").out
