"""Keeps the benchmark alive: every row that needs no other program, at a scale that proves nothing about speed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.processes import family, is_alive
from loadtests.bench.facts import FactSet
from loadtests.bench.pairs import make_pairs
from loadtests.bench.rows import ROWS

ROOT = Path(__file__).parents[2]
RUN_TIMEOUT_S = 600
"""Many times what it takes: it starts dozens of servers, on a machine that other tests keep busy."""
CLEAN_UP_S = 30


@pytest.mark.timeout(RUN_TIMEOUT_S + CLEAN_UP_S + 10)
def test_every_row_measures_something_and_all_systems_agree(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "loadtests.compare", "--scale", "0.001", "--seconds", "0.02", "--rounds", "1"]
    status, said = run_to_its_end([*command, "--out", str(out)])
    # 1 says that a bound was not met, which at this scale it may not be.
    assert status in (0, 1), said
    assert out.exists(), said
    rows = json.loads(out.read_text())["rows"]
    assert {row["row"] for row in rows} == set(ROWS)
    assert all(row["measured"] and row["command"] for row in rows)


def run_to_its_end(command: list[str]) -> tuple[int, str]:
    """The exit status, and what was printed. One that takes too long is interrupted, so that it stops its servers."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            said, _ = running.communicate(timeout=RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)
            said, _ = running.communicate(timeout=CLEAN_UP_S)
            pytest.fail(f"not done after {RUN_TIMEOUT_S} s: {said}")
    return running.returncode, said


def test_a_benchmark_that_is_terminated_stops_its_servers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.compare", "--scale", "0.001", "--only", "checks"]
    with subprocess.Popen([*command, "--out", str(tmp_path / "bench.json")], cwd=ROOT, stdout=subprocess.PIPE) as bench:
        assert bench.stdout is not None
        assert any(b"pipeline 1," in line for line in bench.stdout), "the first figure, with every server at work"
        started = family(bench.pid)
        assert len(started) > 5
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(CLEAN_UP_S) == 128 + signal.SIGTERM
    assert [one for one in started if is_alive(one.pid)] == []


def test_facts_and_pairs_are_the_same_every_time() -> None:
    assert list(FactSet(0.001).lists()) == list(FactSet(0.001).lists())
    for spread in ("uniform", "zipf"):
        assert make_pairs(spread, 1_000, 50) == make_pairs(spread, 1_000, 50)
    assert make_pairs("uniform", 1_000, 50, 1) != make_pairs("uniform", 1_000, 50, 2)


def test_a_list_holds_each_member_once() -> None:
    for owned in FactSet(0.001).lists():
        everyone = [*owned.members, *owned.ending]
        assert len(set(everyone)) == len(everyone) > 0
