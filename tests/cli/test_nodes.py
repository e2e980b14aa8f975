"""`gate status`, `gate nodes` and `gate config`: what runs here, what runs elsewhere, and what is in force."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from gate import __version__
from gate.service.metrics_directory import counted_in
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command

CHECKS = 3_000


def replicator_of(service: GateService) -> int:
    (pid,) = [one.pid for one in service.processes() if "role replicator" in one.command]
    return pid


def others_answer(gate: Command) -> list[bool]:
    return [other["answers"] for other in gate.json("status")["others"]]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_status_and_nodes_show_every_node_as_it_sees_itself(
    start_service: Services, private_redis: RedisServer
) -> None:
    private_redis.client.config_set("requirepass", "s3cret")
    private_redis.client.auth("s3cret")
    url = private_redis.url.replace("://", "://:s3cret@")
    one = start_service.start("--node-name", "first", "--role", "replicator,worker,http", redis_url=url)
    two = start_service.start("--node-name", "second", redis_url=url, env={"GATE_WORKERS": "2"})
    gate = Command(one.data)
    # On a busy machine a process that was just started may be silent for some seconds.
    wait_until(lambda: gate.json("status")["node"]["ready"], 20, "the first node to call itself ready")
    status = gate.json("status")
    own, (other,) = status["node"], status["others"]
    assert (own["name"], own["version"], own["state"], own["lag"]) == ("first", __version__, "current", 0)
    assert own["roles"] == ["replicator", "worker", "http"]
    assert own["resp"] == f"127.0.0.1:{one.resp_port}" and own["pids"] == [one.pid]
    assert (other["name"], other["answers"]) == ("second", True)
    assert status["online"] == {"app": one.credentials.app_key, "users": 0, "sessions": 0}
    assert "s3cret" not in str(status) and "redis://:***@127.0.0.1" in own["redis"]

    with one.resp_client() as client:
        for _ in range(CHECKS // 100):
            client.execute_command("GATE.MCHECK", "ann", *map(str, range(100)))
        wait_until(lambda: gate.json("status")["node"]["checks_per_s"] > 0, 20, "the checks to be counted")
        assert gate.json("status")["node"]["resp_connections"] == 1
    assert counted_in(one.data / "run/replicator/metrics", "gate_checks_total") == CHECKS

    page = gate("status").out
    assert page.startswith("first (") and "1 other node:" in page and "second" in page
    assert [node["name"] for node in Command(two.data).json("nodes")["nodes"]] == ["first", "second"]

    # Stopped once for each command: its lease, after which it is no longer listed, lasts hardly longer than two of them.
    with stopped(replicator_of(two)):
        assert others_answer(gate) == [False]
    wait_until(lambda: others_answer(gate) == [True], 20, "the second to answer")
    with stopped(replicator_of(two)):
        assert "no answer" in gate("nodes").out

    found = Command(two.data).json("config")["services"][0]["options"]
    assert found["node_name"] == {"value": "second", "from": "option --node-name"}
    assert found["workers"]["from"] in ("option --workers", "environment GATE_WORKERS")
    assert found["log_level"] == {"value": "info", "from": "default"}
    assert "s3cret" not in str(found) and "***" in found["redis"]["value"]

    private_redis.stop()
    away = gate("status")
    assert "first (" in away.out and "the other nodes are not known" in away.err
    assert gate.json("status")["redis_problem"]
    assert gate("nodes", status=3).out == ""


def test_where_nothing_runs_status_is_3_and_config_says_what_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Command(tmp_path / "nothing")
    assert "start `gate serve`" in gate("status", status=3).err
    file = tmp_path / "url"
    file.write_text("redis://:s3cret@h:1/2")
    monkeypatch.setenv("TERM", "dumb")
    gate.env |= {"GATE_REDIS_FILE": str(file), "GATE_WORKERS": "7"}
    (service,) = gate.json("config")["services"]
    assert service["pid"] is None
    assert service["options"]["workers"] == {"value": "7", "from": "environment GATE_WORKERS"}
    assert service["options"]["data"]["from"] == "environment GATE_DATA"
    assert service["options"]["redis"] == {
        "value": "redis://:***@h:1/2",
        "from": f"file {file}, named by GATE_REDIS_FILE",
    }
    assert "no service runs in" in gate("config").out


def test_a_sum_is_read_as_prometheus_client_reads_it(tmp_path: Path) -> None:
    for name in ("counter_1.db", "counter_2.db"):
        counts = MmapedDict(str(tmp_path / name))  # type: ignore[no-untyped-call]
        for word, many in (("allowed", 3), ("sender-banned", 4), ("\u00e4\u00f6\u00fc", 5)):
            counts.write_value(mmap_key("gate_checks", "gate_checks_total", ["verdict"], [word], "help"), many, 0)  # type: ignore[no-untyped-call]
        counts.write_value(mmap_key("gate_checks", "gate_checks_created", [], [], "help"), 100, 0)  # type: ignore[no-untyped-call]
        counts.close()  # type: ignore[no-untyped-call]
    assert counted_in(tmp_path, "gate_checks_total") == 24
    assert counted_in(tmp_path / "none", "gate_checks_total") == 0
