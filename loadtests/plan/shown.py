"""A plan for people: tables, the parts of `docs/scale.md` and its plots."""

from __future__ import annotations

from pathlib import Path

from loadtests import plot
from loadtests.plan import simulated
from loadtests.plan.costs import Costs, conditions, read_costs
from loadtests.plan.limits import Limit, limits_of
from loadtests.plan.simulated import Absence, Lag, Storm, absence_of, lag_of, storm_of
from loadtests.plan.sizing import BUSY, Plan, Size, plan_of
from loadtests.soak.chart import chart

PAGE = plot.REPOSITORY / "docs" / "scale.md"
LAG_PLOT, STORM_PLOT = (plot.PLOT.with_name(f"{name}.svg") for name in ("lag", "storm"))
LAG_FACTORS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
AWAY_S = (2.0, 20.0, 60.0)
STORM_SPREADS_S = (10.0, 60.0)
STORM_SLICES = (1, 8, 64)


def published() -> dict[Path, str]:
    """The page and its plots, as the reports and the size that it names make them."""
    costs = read_costs()
    size = Size()
    plan = plan_of(size, costs)
    lags = [lag_of(factor * size.writes, costs) for factor in LAG_FACTORS]
    carried = min(size.writes, BUSY * 1e6 / costs["backlog_cpu"])
    absences = [absence_of(carried, away_s, costs) for away_s in AWAY_S]
    storms = [
        storm_of(size.online, slices, spread_s, costs)
        for spread_s in STORM_SPREADS_S
        for slices in sorted({*STORM_SLICES, plan.slices})
    ]
    parts = {
        "plan": f"{size_line(size)}\n\n{plan_table(plan)}",
        "breaks": breaks_table(limits_of(plan, costs)),
        "lag": lag_table(lags),
        "absence": f"Writes a second: {_figures(carried)}.\n\n{absence_table(absences)}",
        "storm": storm_table(storms),
        "costs": f"{conditions()}\n\n{costs_table(costs)}",
    }
    return {
        PAGE: plot.filled_in(PAGE.read_text(), parts),
        LAG_PLOT: lag_chart(lags, absences),
        STORM_PLOT: storm_chart(storms),
    }


def size_line(size: Size) -> str:
    """The demand on the deployment."""
    words = ("Users", "list entries", "online", "checks/s", "writes/s")
    return ", ".join(f"{short(value)} {word}" for value, word in zip(size, words, strict=True)) + "."


def plan_table(plan: Plan) -> str:
    """A line for each figure."""
    rows, part = [], ""
    for line in plan.lines:
        rows.append([line.part if line.part != part else "", line.what, quantity(line.value, line.unit), line.how])
        part = line.part
    return _table(["part", "what", "takes", "how"], rows)


def breaks_table(limits: list[Limit]) -> str:
    """The limit that is met first comes first."""
    rows = [[str(number), limit.what, share(limit.share), limit.then] for number, limit in enumerate(limits, 1)]
    return _table(["", "limit", "met at", "then"], rows)


def lag_table(lags: list[Lag]) -> str:
    """A line for each rate of writes."""
    rows = []
    for lag in lags:
        figures = [_ms(lag.p50_ms), _ms(lag.p99_ms), _ms(lag.worst_ms)]
        rows.append([short(lag.writes), f"{lag.busy:.0%}", *(["falls behind"] * 3 if lag.falls_behind else figures)])
    return _table(["writes/s", "replicator's core", "lag p50", "p99", "worst"], rows)


def absence_table(absences: list[Absence]) -> str:
    """A line for each time away."""
    rows = [[f"{one.away_s:.0f} s", _s(one.caught_up_s)] for one in absences]
    return _table(["away for", "in step again after"], rows)


def storm_table(storms: list[Storm]) -> str:
    """A line for each."""
    rows = [[f"{one.spread_s:.0f} s", str(one.slices), _s(one.back_s), f"{one.refused:.1f}"] for one in storms]
    return _table(["clients come within", "slices", "99.9% are back after", "refusals a User"], rows)


def costs_table(costs: Costs) -> str:
    """Each unit cost with its source."""
    rows = [[each.what, quantity(each.value, each.unit), f"`{each.source}`"] for each in costs.every.values()]
    return _table(["what", "cost", "row"], rows)


def lag_chart(lags: list[Lag], absences: list[Absence]) -> str:
    """Lag over time, and what waits after an absence."""
    series = {
        f"age of the oldest Change of a commit (ms), {short(lag.writes)} writes/s": lag.points for lag in lags[1:]
    }
    series |= {f"Changes that wait (million), node was away {one.away_s:.0f} s":
               [(at_s, many / 1e6) for at_s, many in one.points] for one in absences}  # fmt: skip
    return chart(series)


def storm_chart(storms: list[Storm]) -> str:
    """The number of clients that are back, over time."""
    return chart(
        {
            f"Users who are back (million); clients come within {one.spread_s:.0f} s, slices: {one.slices}":
            [(at_s, many / 1e6) for at_s, many in one.points]
            for one in storms
        }
    )  # fmt: skip


def quantity(value: float, unit: str) -> str:
    """With its unit, in three figures."""
    if unit in ("B", "B/s"):
        for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if value >= scale:
                return f"{_figures(value / scale)} {prefix}{unit}"
    if unit == "s" and value >= 120:
        return f"{_figures(value / 60)} min"
    return f"{_figures(value)} {unit}".strip()


def short(value: float) -> str:
    """`10 M` and the like."""
    for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:g} {prefix}"
    return f"{value:g}"


def share(of_size: float) -> str:
    """Of the planned size."""
    return f"{of_size:.0%}" if of_size >= 0.01 else f"{of_size:.2%}"


def _figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _ms(value: float) -> str:
    return f"{_figures(value)} ms" if value < 10_000 else f"{_figures(value / 1e3)} s"


def _s(value: float | None) -> str:
    return f"more than {simulated.STORM_ENDS_S / 60:.0f} min" if value is None else quantity(value, "s")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
