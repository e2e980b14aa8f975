"""`gate shadow report` on a whole service: what was sent over RESP and HTTP is what it counts; and who is warned."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any

import pytest

from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    """Metrics count all Apps in shadow mode."""
    return start_module_service.start()


def checked_over_http(service: GateService, app: str, secret: str, query: str) -> Any:
    pair = base64.b64encode(f"{app}:{secret}".encode()).decode()
    request = urllib.request.Request(f"{service.http}/v1/check?{query}", headers={"Authorization": f"Basic {pair}"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def expect_reported(gate: Command) -> None:
    """The report has the eight denials and the one allowed check of the trial."""

    def is_counted() -> bool:
        return bool(gate.json("shadow", "report")["checks"] == 9)

    wait_until(is_counted, 30, "all checks to be counted")
    report = gate.json("shadow", "report", "--top", "2")
    assert report["shadow"] is True
    assert (report["checks"], report["denials"]) == (9, 8)
    assert abs(report["share"] - 8 / 9) < 1e-9
    assert report["reasons"] == {"blacklisted": 4, "sender-banned": 4}
    assert report["senders"] == [{"user": "eve", "denials": 4}, {"user": "mallory", "denials": 4}]
    assert report["recipients"][0] == {"user": "bob", "denials": 5}
    assert report["pairs"][0] == {"from": "eve", "to": "bob", "denials": 4}
    assert len(report["pairs"]) == 2
    assert sum(hour["denials"] for hour in report["hours"]) == 8
    shown = gate("shadow", "report").out
    assert "8 denials of 9 checks (88.89%)" in shown


def expect_warned_of(service: GateService, gate: Command) -> None:
    """Probes, metrics and the doctor show that an App is in shadow mode."""

    def is_warned_of() -> bool:
        with urllib.request.urlopen(f"{service.http}/readyz") as answer:
            return "in shadow mode" in str(json.load(answer).get("warnings"))

    wait_until(is_warned_of, 40, "/readyz to warn of shadow mode")
    with urllib.request.urlopen(f"{service.http}/metrics") as answer:
        metrics = answer.read().decode()
    assert 'gate_shadow_denials_total{reason="blacklisted"} 4.0' in metrics
    assert 'gate_shadow_apps{environment="development"} 1.0' in metrics
    doctor = gate("doctor", status=None).out
    assert "shadow mode: every check is answered allowed" in doctor and str(gate.app) in doctor


def test_a_trial_from_its_begin_to_its_end(service: GateService, gate: Command) -> None:
    assert gate.app
    (secret,) = gate.json("app", "show", gate.app, "--show-secret")["secrets"]
    gate("blacklist", "add", "bob", "eve")
    gate("ban", "mallory", "--permanent")
    assert "counted no check" in gate("shadow", "report").out
    assert "is not in shadow mode" in gate("shadow", "report").out

    changed = gate("app", "set", gate.app, "--shadow", "--reason", "a trial")
    assert f"changed App {gate.app}" in changed.out
    resp = service.resp_client()
    resp.execute_command("AUTH", gate.app, secret)
    for _ in range(3):
        assert resp.execute_command("GATE.CHECK", "eve", "bob") == 1
    assert resp.execute_command("GATE.VERDICT", "mallory", "bob") == b"allowed"
    assert resp.execute_command("GATE.MCHECK", "mallory", "a", "b", "c") == [1, 1, 1]
    assert resp.execute_command("GATE.CHECK", "ann", "bob") == 1
    assert checked_over_http(service, gate.app, secret, "from=eve&to=bob")["allowed"] is True
    warned = gate("check", "eve", "bob")
    assert (warned.out, "is in shadow mode" in warned.err) == ("allowed\n", True)
    explained = gate("explain", "eve", "bob", status=1).out
    assert "eve to bob: blacklisted" in explained
    assert f"App {gate.app} is in shadow mode: a check answers allowed" in explained

    expect_reported(gate)
    expect_warned_of(service, gate)
    gate("app", "set", gate.app, "--no-shadow")
    assert resp.execute_command("GATE.CHECK", "eve", "bob") == 0
    assert checked_over_http(service, gate.app, secret, "from=eve&to=bob")["verdict"] == "blacklisted"
    assert "shadow mode" not in gate("doctor", status=None).out
    assert "a trial" in gate("audit").out
    assert gate.json("shadow", "report")["denials"] == 8
    resp.close()


def test_a_policy_is_set_and_its_contradictions_are_refused(gate: Command) -> None:
    assert gate.app
    refused = gate("app", "set", gate.app, "--on-stale", "refuse", status=2).err
    assert "--max-staleness-ms: must be at least 1 with --on-stale refuse" in refused
    gate("app", "set", gate.app, "--on-stale", "refuse", "--max-staleness-ms", "5000")
    shown = gate.json("app", "show", gate.app)
    assert (shown["on_stale"], shown["max_staleness_ms"], shown["shadow"]) == ("refuse", 5_000, False)
    explained = gate.json("explain", "a", "b")
    assert (explained["on_stale"], explained["max_staleness_ms"]) == ("refuse", 5_000)


def test_bounds_of_the_report_are_named(gate: Command) -> None:
    assert "--days: must be 1 to 7, got 8" in gate("shadow", "report", "--days", "8", status=2).err
    assert "--top: must be 1 to 100, got 0" in gate("shadow", "report", "--top", "0", status=2).err
