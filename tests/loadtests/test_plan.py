"""The plan of a deployment: what `docs/scale.md` shows is computed from the reports, and a row that is missing is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gate.core.revision import DEFAULT_PARTITIONS, MAX_PARTITIONS
from loadtests.bench.table import RESULTS
from loadtests.micro import units
from loadtests.plan import __main__ as command
from loadtests.plan.costs import BENCH, SCALE, UNITS, CostMissing, read_costs
from loadtests.plan.limits import limits_of
from loadtests.plan.shown import published, quantity
from loadtests.plan.simulated import absence_of, lag_of, storm_of
from loadtests.plan.sizing import LEAST_NODES, Size, plan_of

SMALL = 0.05
"""Of the counts that units are measured by: enough to see that each row is there."""
FILES = (BENCH, SCALE, UNITS)


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    for name in FILES:
        shutil.copyfile(RESULTS / name, tmp_path / name)
    return tmp_path


def without_row(path: Path, row: str) -> None:
    report = json.loads(path.read_text())
    report["rows"] = [each for each in report["rows"] if each["row"] != row]
    path.write_text(json.dumps(report))


def test_the_page_and_its_plots_are_what_the_reports_make_them() -> None:
    for path, text in published().items():
        assert path.read_text() == text, f"run .venv/bin/python -m loadtests.plan --publish: {path.name} is out of date"


@pytest.mark.parametrize(
    ("file", "row"), [(BENCH, "checks"), (BENCH, "snapshot"), (BENCH, "user-calls"), (UNITS, "write-redis-cpu")]
)
def test_a_row_that_is_missing_is_named(reports: Path, file: str, row: str) -> None:
    without_row(reports / file, row)
    with pytest.raises(CostMissing, match=f"{file}: {row}.* is missing .*: run "):
        read_costs(reports)


def test_a_report_that_is_missing_is_named(reports: Path) -> None:
    (reports / UNITS).unlink()
    with pytest.raises(CostMissing, match=r"units\.json does not exist: run .*micro\.units"):
        read_costs(reports)


def test_the_units_that_are_measured_are_those_that_a_plan_reads() -> None:
    rows = {unit.row: unit for unit in units.measured("redis-7", SMALL)}
    assert rows.keys() == {
        cost.source.partition(": ")[2] for cost in read_costs().every.values() if UNITS in cost.source
    }
    assert all(unit.value > 0 for unit in rows.values() if unit.row != "announcement-redis-cpu"), rows


def test_every_unit_cost_is_positive_and_has_a_row() -> None:
    for cost in read_costs().every.values():
        assert cost.value > 0, cost
        assert cost.source.partition(":")[0] in FILES


def test_every_figure_names_costs_that_exist() -> None:
    costs = read_costs()
    for line in plan_of(Size(), costs).lines:
        assert set(line.costs) <= set(costs), line


def test_more_of_anything_never_takes_less() -> None:
    costs = read_costs()
    before = plan_of(Size().times(0.001), costs)
    for factor in (0.01, 0.1, 1.0, 10.0):
        after = plan_of(Size().times(factor), costs)
        for earlier, later in zip(before.lines, after.lines, strict=True):
            assert earlier.what == later.what
            assert later.value >= earlier.value, later
        before = after


def test_a_small_deployment_takes_one_redis_and_no_more_nodes_than_must_be() -> None:
    plan = plan_of(Size(users=1e5, entries=1e6, online=1e4, checks=1e3, writes=10), read_costs())
    assert (plan.nodes, plan.masters, plan.slices, plan.partitions) == (LEAST_NODES, 1, 1, DEFAULT_PARTITIONS)
    assert plan_of(Size(), read_costs()).partitions == MAX_PARTITIONS


def test_limits_are_in_order_and_no_further_for_a_larger_size() -> None:
    costs = read_costs()
    shares = [limit.share for limit in limits_of(plan_of(Size(), costs), costs)]
    assert shares == sorted(shares)
    larger = {limit.what: limit.share for limit in limits_of(plan_of(Size().times(2), costs), costs)}
    for limit in limits_of(plan_of(Size(), costs), costs):
        assert larger[limit.what] <= limit.share, limit


def test_a_seed_gives_the_same_lag_and_a_higher_rate_no_less() -> None:
    costs = read_costs()
    assert lag_of(5_000, costs) == lag_of(5_000, costs)
    assert lag_of(500, costs).p50_ms <= lag_of(5_000, costs).p50_ms
    assert lag_of(500, costs).busy < lag_of(5_000, costs).busy


def test_an_absence_ends_unless_writes_come_faster_than_they_are_applied() -> None:
    costs = read_costs()
    applied_per_s = 1e6 / costs["backlog_cpu"]
    short, long_ = (absence_of(applied_per_s / 4, away_s, costs).caught_up_s for away_s in (2.0, 20.0))
    assert short is not None and long_ is not None and 0 < short < long_ < 20.0
    assert absence_of(2 * applied_per_s, 2.0, costs).caught_up_s is None


def test_a_storm_loses_no_client_and_more_slices_end_it_sooner() -> None:
    costs = read_costs()
    one, eight = (storm_of(1e6, slices, 5.0, costs) for slices in (1, 8))
    assert one.back_s is not None and eight.back_s is not None and eight.back_s < one.back_s
    assert one.points[-1][1] == pytest.approx(1e6, rel=0.002)
    assert one.refused > eight.refused >= 0


@pytest.mark.parametrize("text", ["0", "-5", "ten", "5X", "", "1e99", "nan"])
def test_a_size_that_is_no_number_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command.main(["--users", text])
    assert refused.value.code == 2
    assert "--users" in capsys.readouterr().err.splitlines()[-1]


def test_the_command_prints_tables_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--users", "5M", "--entries", "50M", "--writes", "1k"]) == 0
    assert capsys.readouterr().out.startswith("5 M Users, 50 M list entries, 10 M online, 1 M checks/s, 1 k writes/s.")
    assert command.main(["--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["size"]["users"] == 100e6 and document["limits"]
    assert all(cost["source"] for line in document["plan"] for cost in line["costs"])


def test_quantities_are_written_as_people_read_them() -> None:
    assert quantity(30.5e9, "B") == "30.5 GB"
    assert quantity(2_417, "s") == "40.3 min"
    assert quantity(3, "") == "3"
