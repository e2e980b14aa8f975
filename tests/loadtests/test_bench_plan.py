"""What `make bench` says before it measures, where it writes, and what the README gets from its report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

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
    assert "about 28 minutes" in plan.plan(EVERY_ROW).expected()
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
        assert bench.stdout.readline().startswith("left out: before, fairness, ")
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


def system(per_s: list[int], cpu_us: float | None) -> dict[str, Any]:
    """As `turns.summary` has it; the reports from before there were CPU times have rates only."""
    return {"checks_per_s": per_s[0]} | (
        {}
        if cpu_us is None
        else {
            "cpu_us": cpu_us,
            "client_cores": 0.5,
            "others_cores": 0.02,
            "rounds_per_s": " ".join(map(str, per_s)),
        }
    )


def report(cpu_us: float | None) -> dict[str, Any]:
    cells = [
        {
            "pipeline": pipeline,
            "connections": plot.CONNECTIONS,
            "gate": system([2_000_000, 1_000_000, 4_000_000], cpu_us),
            "redis lua": system([500_000, 500_000, 500_000], cpu_us and 10 * cpu_us),
            "ping": system([2_500_000] * 3, cpu_us),
        }
        for pipeline in (1, 64)
    ]
    rows = [
        {"row": "checks", "what": f"checks/s, {spread} pairs, pipeline 1", "measured": "", "detail": detail}
        for spread in plot.SPREADS
        for detail in ({"cells": cells}, {})
    ]
    machine = {"cpu": "A <CPU>", "cores": 2, "kernel": "6.1-x", "python": "3.11"}
    about = {"at": "2026-11-29T00:00:00", "users": 1, "edges": 1, "rounds": 3, "seconds": 0.6}
    return {"machine": machine, "rows": rows, **about}


def test_the_table_has_rates_cpu_times_and_the_ratio_of_each_round() -> None:
    lines = plot.checks_table(report(0.25)).splitlines()
    assert lines[0] == "| pairs, pipeline | Gate | Redis, Lua script | PING | Gate to Lua |"
    assert lines[2] == "| uniform, 1 | 2,000 / 0.25 | 500 / 2.50 | 2,500 / 0.25 | 4.00 x (2.00 to 8.00) |"
    assert [line.split(" |")[0] for line in lines[2:]] == ["| uniform, 1", "| uniform, 64", "| zipf, 1", "| zipf, 64"]
    assert "client took up to 0.50 cores" in plot.conditions(report(0.25))
    assert plot.checks_table(report(None)).splitlines()[2] == "| uniform, 1 | 2,000 | 500 | 2,500 | 4.00 x |"
    assert "client took" not in plot.conditions(report(None))


def test_the_plot_is_whole_xml_with_a_bar_and_a_point_for_each_figure() -> None:
    drawn = ElementTree.fromstring(plot.plot(report(0.25)))
    figures = 3 * 2 * len(plot.SPREADS)
    assert len(drawn.findall("{*}rect")) == 1 + 3 + figures
    assert len(drawn.findall("{*}circle")) == figures
    assert any(text.text and "A <CPU>" in text.text for text in drawn.findall("{*}text"))
    without = ElementTree.fromstring(plot.plot(report(None)))
    assert not without.findall("{*}circle")
    assert int(without.get("height", "0")) < int(drawn.get("height", "0"))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="drawn by Chromium")
def test_the_plot_is_drawn_as_a_picture_too(tmp_path: Path) -> None:
    drawing, image = tmp_path / "bench.svg", tmp_path / "bench.png"
    drawing.write_text(plot.plot(report(0.25)))
    assert plot.draw(drawing, image)
    assert image.read_bytes().startswith(b"\x89PNG")


def test_without_chromium_no_picture_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    assert not plot.draw(tmp_path / "bench.svg", tmp_path / "bench.png")


def test_the_repository_shows_the_figures_of_its_report() -> None:
    for path, text in plot.published().items():
        assert path.read_text() == text, f"run .venv/bin/python -m loadtests.plot: {path.name} is not of bench.json"
