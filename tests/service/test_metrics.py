"""Metrics: the sum over processes, what the pages say at the scrape, and names that stay as documented."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from gate.service.metrics_directory import (
    DIRECTORY_VARIABLE,
    KINDS,
    clear_counts,
    counted_in,
    fold_counts_of,
    forget_gauges_of,
    reserve_counts,
)

COUNT = """
from gate.metrics import CHECKS, RESP_CONNECTIONS
CHECKS.labels("allowed").inc(3)
RESP_CONNECTIONS.set(2)
"""
RENDER = """
import sys
from gate.metrics import render_metrics
from gate.replica.status_page import StatusView, State
view = StatusView(State.CUT_OFF, True, 1234, 1, 5, 99, 7, 1)
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


def test_a_thousand_dead_processes_leave_one_file_of_each_kind(tmp_path: Path) -> None:
    first, _ = run(COUNT, tmp_path)
    made = {path.name.removesuffix(f"_{first}.db"): path.read_bytes() for path in tmp_path.glob("*.db")}
    for pid in range(1_000_000, 1_001_000):
        for kind, counts in made.items():
            (tmp_path / f"{kind}_{pid}.db").write_bytes(counts)
        forget_gauges_of(pid, tmp_path)
        assert fold_counts_of(pid, tmp_path)
    run(COUNT, tmp_path)
    began_s = perf_counter()
    _, page = run(RENDER, tmp_path)
    assert perf_counter() - began_s < 10
    assert 'gate_checks_total{verdict="allowed"} 3006.0' in page
    assert "gate_resp_connections 4.0" in page
    assert page.count("gate_write_ack_seconds_count") == 1
    assert len(list(tmp_path.iterdir())) <= 3 * len(made) + 2, "of three that were not moved, and of the dead"


def test_counts_are_not_moved_while_a_scrape_adds_them_up(tmp_path: Path) -> None:
    pid, _ = run(COUNT, tmp_path)
    reading = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(reading, fcntl.LOCK_SH)
    assert not fold_counts_of(pid, tmp_path)
    assert (tmp_path / f"counter_{pid}.db").exists()
    os.close(reading)
    assert fold_counts_of(pid, tmp_path)
    assert not (tmp_path / f"counter_{pid}.db").exists()


def test_a_new_service_counts_from_nothing(tmp_path: Path) -> None:
    run(COUNT, tmp_path)
    clear_counts(tmp_path)
    _, page = run(RENDER, tmp_path)
    assert "gate_checks_total{" not in page


def test_the_page_shows_the_status_page_and_the_roles(tmp_path: Path) -> None:
    _, page = run(RENDER, tmp_path)
    lines = set(page.splitlines())
    assert {
        'gate_role_up{role="redis"} 0.0',
        'gate_role_up{role="http"} 1.0',
        "gate_replica_state 3.0",
        "gate_replica_ready 1.0",
        "gate_replica_stale_seconds 1.234",
        "gate_replica_stale_ms 1234.0",  # the old name, for one version more
        "gate_replica_lag_changes 7.0",
        "gate_replica_reloads_total 5.0",
        "gate_replica_applied_total 99.0",
    } <= lines


def test_without_a_replica_the_page_is_still_there(tmp_path: Path) -> None:
    _, page = run(RENDER_EMPTY, tmp_path)
    assert "gate_replica_state" not in page
    assert "# TYPE gate_write_ack_seconds histogram" in page


def test_times_that_are_added_up_fall_into_the_buckets_that_observe_takes(tmp_path: Path) -> None:
    times = [0.0, 0.00001, 0.00002, 0.000021, 0.0005, 0.3, 2.5, 2.6, 60.0]
    one_by_one = f"from gate.metrics import HTTP_SECONDS\nfor s in {times}: HTTP_SECONDS.labels('check').observe(s)"
    together = f"""
from gate.http.responses import Tally
tally = Tally()
for s in {times}: tally.count_request("check", 200, s)
tally.count_request("check", 400, 1.0)
tally.count_verdicts({{"allowed": 2, "blacklisted": 1}})
tally.count_verdicts({{"allowed": 5}})
tally.report()
tally.report()
"""
    for name, code in (("one", one_by_one + "\nHTTP_SECONDS.labels('check').observe(1.0)"), ("all", together)):
        (tmp_path / name).mkdir()
        run(code, tmp_path / name)
    pages = [run(RENDER_EMPTY, tmp_path / name)[1].splitlines() for name in ("one", "all")]
    seconds = [[line for line in page if line.startswith("gate_http_request_seconds_")] for page in pages]
    assert len(seconds[0]) > 17 and seconds[0] == seconds[1]
    counted = {line for line in pages[1] if line.startswith(("gate_http_requests_total{", "gate_checks_total{"))}
    assert counted == {
        'gate_http_requests_total{group="check",status="200"} 9.0',
        'gate_http_requests_total{group="check",status="400"} 1.0',
        'gate_checks_total{verdict="allowed"} 7.0',
        'gate_checks_total{verdict="blacklisted"} 1.0',
    }


def test_an_empty_file_of_a_process_that_ended_counts_nothing(tmp_path: Path) -> None:
    assert reserve_counts(tmp_path, 4711)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".db"] * len(KINDS)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert fold_counts_of(4711, tmp_path)
    assert counted_in(tmp_path, "gate_checks_total") == 0
