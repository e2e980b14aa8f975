"""`gate serve` whole: the first start and the ready line, deaths of each process, and every way to stop."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import stat
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import redis

from gate import __version__
from harness.ports import free_port
from harness.processes import family, is_alive
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.service.running import get, is_ready, kill, pid_of, readyz, restarts

ROLES = ["redis", "replicator", "worker", "http", "background"]


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    return start_module_service.start(env={"GATE_LOG_FORMAT": "json", "GATE_LOG_LEVEL": "debug"})


def test_the_first_start_leaves_what_the_contract_says(service: GateService) -> None:
    credentials = service.data / "credentials.json"
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    assert stat.S_IMODE(service.data.stat().st_mode) == 0o700
    names = ["app_key", "app_secret", "operator", "operator_password"]
    assert list(json.loads(credentials.read_text())) == names
    assert service.output.count("gate ready") == 1
    assert service.app_key == service.credentials.app_key


def test_when_it_says_ready_all_of_it_answers(service: GateService) -> None:
    assert readyz(service) == (200, {"ready": True, "stale_ms": 0})
    assert get(service, "/healthz")[0] == 200
    assert service.resp_client().execute_command("GATE.CHECK", "a", "b") == 1
    assert all(pid_of(service, role) for role in ROLES)
    _, page = get(service, "/metrics")
    assert 'gate_role_up{role="worker-0"} 1.0' in page
    assert "gate_replica_state 2.0" in page


def test_roles_never_import_from_the_working_directory(service: GateService) -> None:
    arguments = Path(f"/proc/{pid_of(service, 'worker')}/cmdline").read_bytes().split(b"\0")
    assert arguments[1] == b"-P"


def test_who_answers_checks_comes_first_where_processors_are_short(service: GateService) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    behind = {role: os.getpriority(os.PRIO_PROCESS, pid_of(service, role) or -1) - own for role in ROLES}
    assert behind == {"redis": 0, "replicator": 0, "worker": 0, "http": 5, "background": 5}
    policies = {role: os.sched_getscheduler(pid_of(service, role) or -1) for role in ROLES}
    waits = {role for role, policy in policies.items() if policy == os.SCHED_BATCH}
    assert waits == {"http", "background"}


def test_what_the_worker_decided_is_counted(service: GateService) -> None:
    client = service.resp_client()
    for _ in range(32):  # one chunk in eight is timed
        client.execute_command("GATE.CHECK", "a", "b")
    for line in ('gate_checks_total{verdict="allowed"}', 'gate_check_seconds_bucket{le="+Inf",surface="resp"}'):
        wait_until(lambda line=line: line in get(service, "/metrics")[1], 5, line)  # type: ignore[misc]


def test_a_scrape_has_the_checks_over_http_that_were_answered_before_it(service: GateService) -> None:
    known = service.credentials
    basic = "Basic " + base64.b64encode(f"{known.app_key}:{known.app_secret}".encode()).decode()
    counts = []
    for _ in range(3):
        request = urllib.request.Request(f"{service.http}/v1/check?from=a&to=b", headers={"Authorization": basic})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
        page = get(service, "/metrics")[1]
        found = [
            re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
            for name in ('gate_http_request_seconds_count{group="check"}', 'gate_check_seconds_count{surface="http"}')
        ]
        same, counted = (float(one[1]) for one in found if one is not None)
        assert same == counted
        counts.append(counted)
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]
    lines = [line for line in service.output.splitlines() if "/v1/check" in line]
    assert lines == [], "a check that got a Verdict is not logged unless --log-checks asks for it"


@pytest.mark.parametrize("role", ROLES)
def test_a_process_that_is_killed_is_restarted_and_counted(service: GateService, role: str) -> None:
    counted = restarts(service, role)
    kill(service, role)

    wait_until(
        lambda: is_ready(service) and restarts(service, role) == counted + 1,
        15,
        "the service to be whole again, and the restart to be counted",
    )
    assert service.resp_client().execute_command("GATE.CHECK", "a", "b") == 1


def test_a_process_that_hangs_is_named_until_it_goes_on(service: GateService) -> None:
    wait_until(lambda: readyz(service)[0] == 200, 15, "the service to be whole")
    background = wait_until(lambda: pid_of(service, "background"), 5, "the background worker")
    os.kill(background, signal.SIGSTOP)
    try:
        status, body = wait_until(
            lambda: found if (found := readyz(service))[0] != 200 else None, 10, "the silence to be noticed"
        )
    finally:
        os.kill(background, signal.SIGCONT)
    assert (status, body["missing"]) == (503, ["background"])
    wait_until(lambda: readyz(service)[0] == 200, 10, "it to be heard again")


def test_no_secret_is_in_arguments_environment_or_logs(service: GateService) -> None:
    credentials = service.credentials
    secrets = [credentials.app_secret, credentials.operator_password]
    for one in service.processes():
        environment = Path(f"/proc/{one.pid}/environ").read_bytes().decode(errors="replace")
        assert [secret for secret in secrets if secret in one.command + environment] == []
    assert [secret for secret in secrets if secret in service.output] == []


def test_the_log_names_the_redis_in_use(service: GateService) -> None:
    lines = [json.loads(line) for line in service.output.splitlines() if not line.startswith("gate ready")]
    assert [line["redis"] for line in lines if line["event"] == "redis in use"] == ["embedded"]


def test_the_log_has_start_and_stop_with_version_and_options(
    start_service: Services, private_redis: RedisServer
) -> None:
    private_redis.client.config_set("requirepass", "hunter2")
    url = private_redis.url.replace("//", "//:hunter2@", 1)
    service = start_service.start("--log-format", "json", "--ack-timeout-ms", "900", redis_url=url)
    service.stop()
    lines = [json.loads(line) for line in service.output.splitlines() if not line.startswith("gate ready")]
    started, stops, stopped = (line for line in lines if line["event"].startswith(("gate started", "gate stop")))
    assert (
        started["version"] == __version__ and "***" in started["redis"] and str(private_redis.port) in started["redis"]
    )
    assert "--ack-timeout-ms=900" in started["options"] and "--durability" not in started["options"]
    assert (stops["event"], stopped["event"], stopped["forced"]) == ("gate stops", "gate stopped", False)
    assert "hunter2" not in service.output


def test_logs_are_json_lines_when_asked(service: GateService) -> None:
    lines = [line for line in service.output.splitlines() if not line.startswith("gate ready")]
    assert lines
    assert all({"event", "level", "timestamp", "role"} <= json.loads(line).keys() for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(start_service: Services, number: signal.Signals) -> None:
    service = start_service.start()
    members = family(service.pid)
    # To the whole group, as a Ctrl-C in a terminal does.
    os.killpg(service.pid, number) if number is signal.SIGINT else os.kill(service.pid, number)
    assert service.wait_exit() == 0
    assert not any(is_alive(one.pid) for one in members)
    assert "Traceback" not in service.output
    assert not (service.data / "redis" / "redis.sock").exists()


def test_a_signal_before_it_is_ready_ends_it_too(start_service: Services) -> None:
    service = start_service.start(wait=False)
    wait_until(lambda: len(service.processes()) > 2, 10, "the first children")
    assert service.stop() == 0
    assert "gate ready" not in service.output


def test_a_second_signal_does_not_wait(start_service: Services) -> None:
    service = start_service.start("--drain-timeout", "60")
    os.kill(wait_until(lambda: pid_of(service, "replicator"), 5, "the replicator"), signal.SIGSTOP)
    os.kill(service.pid, signal.SIGTERM)
    wait_until(lambda: pid_of(service, "http") is None, 10, "the drain to begin")

    def insist() -> bool:
        os.kill(service.pid, signal.SIGTERM)
        return not service.is_running

    wait_until(insist, 10, "it to give up the drain")
    assert service.wait_exit() == 1


def test_the_same_signal_twice_at_once_is_one(start_service: Services) -> None:
    """`timeout` and `make` send what the group has got already."""
    service = start_service.start()
    os.kill(service.pid, signal.SIGTERM)
    os.kill(service.pid, signal.SIGTERM)
    assert service.wait_exit() == 0


def test_one_that_does_not_stop_is_killed_in_the_time_given(start_service: Services) -> None:
    service = start_service.start("--drain-timeout", "1")
    os.kill(wait_until(lambda: pid_of(service, "replicator"), 5, "the replicator"), signal.SIGSTOP)
    started_s = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - started_s < 5


def test_nothing_outlives_a_supervisor_that_is_killed(start_service: Services) -> None:
    service = start_service.start()
    members = family(service.pid)
    os.kill(service.pid, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(one.pid) for one in members), 10, "every child to end")
    again = start_service.start(data=service.data, resp_port=service.resp_port)
    assert again.credentials == service.credentials


def test_a_start_right_after_the_supervisor_was_killed(start_service: Services) -> None:
    """As a service manager does: the old children may still be ending."""
    service = start_service.start()
    os.kill(service.pid, signal.SIGKILL)
    http_port = int(service.http.rpartition(":")[2])
    again = start_service.start(data=service.data, resp_port=service.resp_port, http_port=http_port)
    assert again.resp_client().execute_command("GATE.CHECK", "a", "b") == 1


def test_facts_outlive_the_death_of_everything(start_service: Services) -> None:
    service = start_service.start()
    service.kill_all()
    again = start_service.start(data=service.data)
    assert again.credentials == service.credentials
    assert readyz(again)[0] == 200


def test_all_workers_share_a_unix_socket(start_service: Services, tmp_path: Path) -> None:
    path = tmp_path / "resp.sock"
    service = start_service.start("--unix", str(path), workers=2)
    credentials = service.credentials
    clients = [
        redis.Redis(unix_socket_path=str(path), username=credentials.app_key, password=credentials.app_secret)
        for _ in range(8)
    ]
    assert [client.execute_command("GATE.CHECK", "a", "b") for client in clients] == [1] * len(clients)
    service.stop()
    assert not path.exists()


def test_port_0_is_resolved_in_the_ready_line(start_service: Services) -> None:
    service = start_service.start("--http", "127.0.0.1:0", "--resp", "127.0.0.1:0")
    assert readyz(service)[0] == 200
    assert service.resp_client().ping()


def test_a_data_directory_with_a_long_path(start_service: Services, tmp_path: Path) -> None:
    service = start_service.start(data=tmp_path / ("x" * 120) / "data")
    assert service.resp_client().execute_command("GATE.CHECK", "a", "b") == 1
    moved = Path((service.data / "redis" / "socket").read_text())
    service.stop()
    assert not moved.parent.exists()


def test_an_emptied_redis_gets_its_app_again(start_service: Services, private_redis: RedisServer) -> None:
    service = start_service.start(redis_url=private_redis.url)
    private_redis.restart_empty()
    wait_until(lambda: private_redis.client.hexists("gate:{0}:apps", service.credentials.app_key), 15, "the App")
    assert service.resp_client().execute_command("GATE.CHECK", "a", "b") == 1


def test_readiness_does_not_turn_back_because_redis_is_away(
    start_service: Services, private_redis: RedisServer
) -> None:
    service = start_service.start(redis_url=private_redis.url)
    with private_redis.paused():
        for role in ("replicator", "background", "http"):
            kill(service, role)
        wait_until(lambda: is_ready(service), 10, "the service to be ready without Redis")
        assert service.resp_client().execute_command("GATE.CHECK", "a", "b") == 1
    wait_until(lambda: "gate_replica_state 2.0" in get(service, "/metrics")[1], 10, "the Replica to be current again")


def test_the_embedded_server_may_hang_without_a_balancer_noticing(start_service: Services) -> None:
    service = start_service.start()
    server = wait_until(lambda: pid_of(service, "redis"), 5, "the server")
    os.kill(server, signal.SIGSTOP)
    try:
        page = 'gate_role_up{role="redis"} 0.0'
        wait_until(lambda: page in get(service, "/metrics")[1], 10, "the silence to be noticed")
        assert is_ready(service)
    finally:
        os.kill(server, signal.SIGCONT)


def test_two_nodes_on_one_redis_share_the_first_app(start_service: Services, private_redis: RedisServer) -> None:
    first = start_service.start(redis_url=private_redis.url)
    second = start_service.start(redis_url=private_redis.url)
    assert second.app_key == first.app_key
    assert pid_of(first, "redis") is None
    assert (first.data / "node-id").read_text() != (second.data / "node-id").read_text()


def test_a_password_of_redis_is_seen_nowhere(start_service: Services, tmp_path: Path) -> None:
    server = RedisServer.start("valkey-9", tmp_path / "locked", extra=["--requirepass", ""])
    server.client.config_set("requirepass", "hunter2")
    url = f"redis://:hunter2@127.0.0.1:{server.port}/0"
    try:
        service = start_service.start(env={"GATE_REDIS": url, "GATE_LOG_LEVEL": "debug"})
        roles = [one for one in service.processes() if "gate.service.role" in one.command]
        assert len(roles) == 4
        assert f"redis=redis://:***@127.0.0.1:{server.port}" in service.output
        assert [one for one in service.processes() if "hunter2" in one.command] == []
        os.kill(wait_until(lambda: pid_of(service, "background"), 5, "the background worker"), signal.SIGKILL)
        server.kill()
        wait_until(lambda: "cut off" in service.output, 10, "the loss to be logged")
        assert "hunter2" not in service.output
        service.stop()
    finally:
        server.kill()


def test_roles_can_be_split_over_services_that_share_a_data_directory(start_service: Services) -> None:
    back = start_service.start("--role", "redis,replicator,background", wait=False)
    back.wait_for_output("gate ready app=")
    front = start_service.start("--role", "worker,http", data=back.data, wait=False)
    front.output_path = back.output_path  # one data directory, one file of output
    wait_until(lambda: f"resp=127.0.0.1:{front.resp_port}" in front.output_path.read_text(), 20, "the front's line")
    assert front.resp_client().execute_command("GATE.CHECK", "a", "b") == 1
    assert readyz(front)[0] == 200


def test_a_wild_port_stays_free_after_all(start_service: Services) -> None:
    """Where one service stopped, the next takes the same ports at once, whatever lingers in TIME_WAIT."""
    port = free_port()
    for _ in range(2):
        service = start_service.start(resp_port=port)
        service.resp_client().ping()
        assert service.stop() == 0


def test_the_supervisor_says_that_it_is_alive_whatever_http_does(start_service: Services) -> None:
    port = free_port()
    service = start_service.start("--health", f"127.0.0.1:{port}")
    stuck = pid_of(service, "http")
    assert stuck is not None
    os.kill(stuck, signal.SIGSTOP)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/check", timeout=5)
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).status == 200, (
            "idle ones make room"
        )
        for one in idle:
            one.close()
    finally:
        os.kill(stuck, signal.SIGCONT)
