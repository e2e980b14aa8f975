"""What `make bench` says before it measures, where it writes, and what the README gets from its report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests import plot
from loadtests.bench import plan
from loadtests.bench.rows import ROWS

ROOT = Path(__file__).parents[2]
EVERY_ROW = list(ROWS)


def test_only_a_whole_run_writes_the_report_that_is_published() -> None:
    assert plan.plan(EVERY_ROW).is_whole
    assert plan.plan(EVERY_ROW, seconds=0.6).is_whole
    parts = [
        plan.plan(EVERY_ROW, only=["checks"]),
        plan.plan(EVERY_ROW, scale=0.01),
        plan.plan(EVERY_ROW, is_quick=True),
    ]
    assert not any(part.is_whole for part in parts)
    for out in {part.out for part in parts}:
        assert subprocess.run(["git", "check-ignore", "-q", out], cwd=ROOT, check=False).returncode == 0, out


def test_a_quick_run_names_rows_that_exist_and_takes_what_is_given() -> None:
    quick = plan.plan(EVERY_ROW, rounds=1, is_quick=True)
    assert set(quick.rows) < set(ROWS)
    assert (quick.options.rounds, quick.options.scale) == (1, plan.QUICK.scale)
    assert quick.may_begin(0.0) and not quick.may_begin(plan.QUICK_S)
    assert plan.plan(EVERY_ROW).may_begin(plan.WHOLE_S)


def test_the_time_is_that_of_the_last_whole_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = tmp_path / "bench.json"
    monkeypatch.setattr(plan, "WHOLE_REPORT", report)
    assert "about 25 minutes" in plan.plan(EVERY_ROW).expected()
    assert "unknown" in plan.plan(EVERY_ROW, only=["checks"]).expected()
    report.write_text(json.dumps({"took_s": dict.fromkeys(EVERY_ROW, 60.0)}))
    assert f"about {len(EVERY_ROW)} minutes" in plan.plan(EVERY_ROW).expected()
    assert "about 60 s" in plan.plan(EVERY_ROW, only=["checks"]).expected()


def test_a_row_is_printed_when_it_is_measured(tmp_path: Path) -> None:
    small = ["--scale", "0.001", "--seconds", "0.02", "--rounds", "1", "--only", "roundtrip"]
    command = [sys.executable, "-m", "loadtests.compare", "--quick", *small, "--out", str(tmp_path / "bench.json")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        assert "1 subjects; takes under 2 minutes" in bench.stdout.readline()
        assert bench.stdout.readline().startswith("left out: fairness, ")
        assert any(line.startswith("measured roundtrip: ") for line in bench.stdout)
        assert bench.poll() is None, "the row came with the table, when all servers had been stopped"
        bench.communicate()
    assert bench.returncode == 0
    assert json.loads((tmp_path / "bench.json").read_text())["took_s"]["roundtrip"] > 0


def test_figures_go_between_the_marks_of_the_page_and_nowhere_else() -> None:
    page = "before\n<!-- bench: checks -->\nold\n<!-- bench end -->\nbetween\n<!-- bench: figures -->\n<!-- bench end -->\n"
    new = {"checks": "NEW", "figures": "MORE"}
    filled = plot.filled_in(page, new)
    assert "old" not in filled
    assert filled.startswith("before\n<!-- bench: checks -->\n\nNEW\n\n<!-- bench end -->\nbetween\n")
    assert plot.filled_in(filled, new) == filled


def test_the_repository_shows_the_figures_of_its_report() -> None:
    for path, text in plot.published().items():
        assert path.read_text() == text, f"run .venv/bin/python -m loadtests.plot: {path.name} is not of bench.json"
