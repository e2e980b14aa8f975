"""Keeps the benchmark alive: every row that needs no other program, at a scale that proves nothing about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench.facts import FactSet
from loadtests.bench.pairs import make_pairs
from loadtests.bench.rows import ROWS

ROOT = Path(__file__).parents[2]
RUN_TIMEOUT_S = 150


@pytest.mark.timeout(RUN_TIMEOUT_S + 10)
def test_every_row_measures_something_and_all_systems_agree(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "loadtests.compare", "--scale", "0.001", "--seconds", "0.02", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=RUN_TIMEOUT_S
    )
    # 1 says that a bound was not met, which at this scale it may not be.
    assert done.returncode in (0, 1), done.stderr
    assert out.exists(), done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert {row["row"] for row in rows} == set(ROWS)
    assert all(row["measured"] and row["command"] for row in rows)


def test_facts_and_pairs_are_the_same_every_time() -> None:
    assert list(FactSet(0.001).lists()) == list(FactSet(0.001).lists())
    for spread in ("uniform", "zipf"):
        assert make_pairs(spread, 1_000, 50) == make_pairs(spread, 1_000, 50)
    assert make_pairs("uniform", 1_000, 50, 1) != make_pairs("uniform", 1_000, 50, 2)


def test_a_list_holds_each_member_once() -> None:
    for owned in FactSet(0.001).lists():
        everyone = [*owned.members, *owned.ending]
        assert len(set(everyone)) == len(everyone) > 0
