"""Metrics: the sum over processes, what the pages say at the scrape, and names that stay as documented."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gate.service.counting import DIRECTORY_VARIABLE, clear_counts, forget_gauges_of

COUNT = """
from gate.metrics import CHECKS, RESP_CONNECTIONS
CHECKS.labels("allowed").inc(3)
RESP_CONNECTIONS.set(2)
"""
RENDER = """
import sys
from gate.metrics import render_metrics
from gate.replica.board import BoardView, State
view = BoardView(State.CUT_OFF, True, 1234, 1, 5, 99, 7, 1)
sys.stdout.write(render_metrics(lambda: view, lambda: {"redis": False, "http": True}).decode())
"""
RENDER_EMPTY = "import sys; from gate.metrics import render_metrics; sys.stdout.write(render_metrics().decode())"


def run(code: str, directory: Path) -> tuple[int, str]:
    environment = {**os.environ, DIRECTORY_VARIABLE: str(directory)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return process.pid, text


def test_counts_of_processes_add_up_and_outlive_them(tmp_path: Path) -> None:
    first, _ = run(COUNT, tmp_path)
    run(COUNT, tmp_path)
    _, page = run(RENDER, tmp_path)
    assert 'gate_checks_total{verdict="allowed"} 6.0' in page
    assert "gate_resp_connections 4.0" in page
    forget_gauges_of(first, tmp_path)
    _, page = run(RENDER, tmp_path)
    assert 'gate_checks_total{verdict="allowed"} 6.0' in page
    assert "gate_resp_connections 2.0" in page


def test_a_new_service_counts_from_nothing(tmp_path: Path) -> None:
    run(COUNT, tmp_path)
    clear_counts(tmp_path)
    _, page = run(RENDER, tmp_path)
    assert "gate_checks_total{" not in page


def test_the_page_shows_the_board_and_the_roles(tmp_path: Path) -> None:
    _, page = run(RENDER, tmp_path)
    lines = set(page.splitlines())
    assert {
        'gate_role_up{role="redis"} 0.0',
        'gate_role_up{role="http"} 1.0',
        "gate_replica_state 3.0",
        "gate_replica_ready 1.0",
        "gate_replica_stale_ms 1234.0",
        "gate_replica_lag_changes 7.0",
        "gate_replica_reloads_total 5.0",
        "gate_replica_applied_total 99.0",
    } <= lines


def test_without_a_replica_the_page_is_still_there(tmp_path: Path) -> None:
    _, page = run(RENDER_EMPTY, tmp_path)
    assert "gate_replica_state" not in page
    assert "# TYPE gate_write_ack_ms histogram" in page
