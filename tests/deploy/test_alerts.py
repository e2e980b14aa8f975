"""Alerts fire on their fault and not on health, by Debian's Prometheus; and one cause is one page, by its Alertmanager."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from harness.ports import free_port
from harness.servers import RedisServer
from harness.service import Services
from harness.waiting import wait_until
from tests.deploy.faults import FAULTS, HEALTH, LOOKED_AT
from tests.deploy.files import DEPLOY, load_yaml
from tests.deploy.queries import asked_of, rules

RUNBOOK = "https://runbooks.test/README.md"
FIRES_WITHIN_S = 60
BY_NAME = {rule["alert"]: rule for rule in rules()}


def program(name: str) -> str:
    """A program of Debian's packages prometheus and prometheus-alertmanager; skips the test if it is missing."""
    return shutil.which(name) or pytest.skip(f"no {name}: scripts/install-test-tools installs it where it can")


def promtool_tests(series: dict[str, str], expected: list[dict[str, Any]]) -> dict[str, Any]:
    """One group of a file for `promtool test rules`."""
    return {
        "interval": "1m",
        "external_labels": {"runbook": RUNBOOK},
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": expected,
    }


def run_promtool(folder: Path, groups: list[dict[str, Any]]) -> None:
    tests = {"rule_files": [str(DEPLOY / "prometheus" / "gate-rules.yaml")], "tests": groups}
    (folder / "tests.yaml").write_text(yaml.safe_dump(tests))
    command = [program("promtool"), "test", "rules", str(folder / "tests.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_its_fault() -> None:
    assert list(FAULTS) == list(BY_NAME)


def test_each_alert_fires_on_its_fault(tmp_path: Path) -> None:
    groups = []
    for alert, fault in FAULTS.items():
        fired = {
            "exp_labels": {**fault.labels} | BY_NAME[alert]["labels"],
            "exp_annotations": {"summary": fault.summary, "runbook_url": f"{RUNBOOK}#{alert.lower()}"},
        }
        groups.append(
            promtool_tests(fault.series, [{"eval_time": fault.at, "alertname": alert, "exp_alerts": [fired]}])
        )
    run_promtool(tmp_path, groups)


def test_no_alert_fires_on_a_node_that_is_well(tmp_path: Path) -> None:
    shown = {one.metric for rule in rules() for one in asked_of(rule["expr"])}
    assert shown == {name.partition("{")[0] for name in HEALTH}, "health has each metric"
    silent = [{"eval_time": at, "alertname": alert, "exp_alerts": []} for at in LOOKED_AT for alert in FAULTS]
    run_promtool(tmp_path, [promtool_tests(HEALTH, silent)])


@contextmanager
def running(folder: Path, *command: str, ready: str) -> Iterator[None]:
    """A server of a test, until the block ends. `ready` is the URL that answers 200 once it can be used."""

    def is_ready() -> bool:
        assert server.poll() is None, (folder / "log").read_text()
        try:
            return requests.get(ready, timeout=2).ok
        except requests.ConnectionError:
            return False

    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            wait_until(is_ready, 30, f"{command[0]} to be ready")
            yield
        finally:
            server.kill()
            server.wait()


def test_prometheus_scrapes_a_node_and_its_alert_fires(
    tmp_path: Path, start_service: Services, private_redis: RedisServer
) -> None:
    service = start_service.start(redis_url=private_redis.url)
    config = load_yaml("prometheus/prometheus.yaml")
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [service.http.removeprefix("http://")]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(DEPLOY / "prometheus" / "gate-rules.yaml", tmp_path)
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = (
        *(program("prometheus"), "--config.file=prometheus.yaml", "--storage.tsdb.path=kept"),
        f"--web.listen-address=127.0.0.1:{port}",
    )

    def ask(query: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{url}/api/v1/query", params={"query": query}, timeout=5).json()
        return list(answer["data"]["result"])

    def firing() -> set[str]:
        alerts = requests.get(f"{url}/api/v1/alerts", timeout=5).json()["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    with running(tmp_path, *command, ready=f"{url}/-/ready"):
        wait_until(lambda: [one["value"][1] for one in ask('up{job="gate"}')] == ["1"], 30, "a scrape")
        wait_until(lambda: bool(ask("gate_build_info")), 30, "its figures")
        assert firing() == set()
        private_redis.kill()
        wait_until(lambda: "GateRedisAway" in firing(), FIRES_WITHIN_S, "the alert")


def test_one_cause_is_one_page(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = (
        *(program("prometheus-alertmanager"), f"--config.file={DEPLOY / 'prometheus' / 'alertmanager.yaml'}"),
        *("--storage.path=kept", "--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}"),
    )
    with running(tmp_path, *command, ready=f"{url}/-/ready"):
        node, other = {"instance": "a:8080"}, {"instance": "b:8080"}
        fired = [
            {"alertname": "GateGone"} | node,
            {"alertname": "GateRoleDown", "role": "worker-0"} | node,
            {"alertname": "GateRedisAway"} | other,
            *({"alertname": name} | other for name in ("GateReplicaStale", "GateWritesPending", "GateHttpFails")),
            {"alertname": "GateKicksLate"},
            {"alertname": "GateDiskFull", "instance": "c:8080"},
            {"alertname": "GateLeasesEnded"},
            {"alertname": "GateSessionsEnded"},
        ]
        posted = requests.post(f"{url}/api/v2/alerts", json=[{"labels": one} for one in fired], timeout=5)
        assert posted.ok, posted.text

        def paged() -> set[str]:
            alerts = requests.get(f"{url}/api/v2/alerts", params={"inhibited": "false"}, timeout=5).json()
            return {one["labels"]["alertname"] for one in alerts}

        pages = {"GateGone", "GateRedisAway", "GateDiskFull", "GateLeasesEnded"}
        wait_until(lambda: paged() == pages, 15, "what follows to be held back")


def test_rules_of_inhibition_name_alerts_that_exist() -> None:
    named = " ".join(
        one
        for rule in load_yaml("prometheus/alertmanager.yaml")["inhibit_rules"]
        for one in rule["source_matchers"] + rule["target_matchers"]
    )
    for name in re.findall(r"Gate\w+(?:\.\+)?", named):
        assert any(re.fullmatch(name, alert) for alert in BY_NAME), name
