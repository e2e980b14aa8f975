"""`make soak`: two nodes under steady mixed load, and whether anything grows that must not.

    python -m loadtests.soak [--minutes 30] [--nodes 2] [--every 5] [--out DIR]

The load is that of `make chaos` without its faults: writers and checkers on every surface, Gateways whose Users come and go,
readers of the feed, a webhook; every verdict is judged here too. Writes `soak.json`, `soak.md` and `soak.svg`. Exit status 1 if
a series grew past its bound, or a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.ending import exit_on_signals
from loadtests.chaos.run import Options, Run
from loadtests.chaos.site import Site
from loadtests.soak.chart import chart
from loadtests.soak.samples import Series, of_processes, of_redis, of_replica
from loadtests.soak.trend import Trend, trend

RESULTS = Path(__file__).parents[1] / "results"
SAID_EVERY_S = 30.0
SEED = 1


def main() -> int:
    """Parse, run, judge, report."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description="Steady load; does anything grow?")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--nodes", type=int, default=2, choices=(1, 2, 3))
    parser.add_argument("--every", type=float, default=5.0, metavar="S", help="seconds between two samples")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    exit_on_signals()
    site = Site(Path(tempfile.mkdtemp(prefix="gate-soak-")), given.nodes)
    try:
        site.start()
        run = Run(Options(SEED, given.minutes * 60, given.nodes), site, lambda line: print(line, flush=True))
        series = Series()
        asyncio.run(_soak(run, site, series, given.every))
    finally:
        site.close()
    trends = [found for name, points in series.points.items() if (found := trend(name, points))]
    report = _report(run, series, trends)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "soak.json").write_text(json.dumps(report, separators=(",", ":")) + "\n")
    (given.out / "soak.md").write_text(_markdown(report))
    (given.out / "soak.svg").write_text(chart(series.points))
    print(_markdown(report))
    return 1 if report["grown"] or report["violations"] else 0


async def _soak(run: Run, site: Site, series: Series, every_s: float) -> None:
    began_s = said_s = time.monotonic()
    async with run.loaded():
        while (now_s := time.monotonic()) < began_s + run.options.seconds:
            series.add(now_s - began_s, await asyncio.to_thread(_sample, site))
            if now_s - said_s > SAID_EVERY_S:
                said_s = now_s
                memory_mb = sum(
                    points[-1][1] for name, points in series.points.items() if name.startswith("memory MB, node")
                )
                print(
                    f"{(now_s - began_s) / 60:.1f} min: {memory_mb:.0f} MB in all nodes, {run.written:,} writes, "
                    f"{run.checked:,} verdicts, {run.ledger.broken_count} violations",
                    flush=True,
                )
            await asyncio.sleep(every_s)


def _sample(site: Site) -> dict[str, float]:
    found = of_redis(site.primary.client)
    for node in site.nodes:
        found |= of_processes([node.running.pid], node.number)
        found |= of_replica(node.facts_file(), node.number)
    return found


def _report(run: Run, series: Series, trends: list[Trend]) -> dict[str, Any]:
    return {
        "minutes": round(run.options.seconds / 60, 1),
        "nodes": run.options.nodes,
        "verdicts": run.checked,
        "writes": run.written,
        "violations": run.ledger.broken_count,
        "shown": [violation.as_json() for violation in run.ledger.violations],
        "grown": [found.name for found in trends if not found.is_flat],
        "trends": [{**found._asdict(), "is_flat": found.is_flat} for found in trends],
        "series": series.points,
    }


def _markdown(report: dict[str, Any]) -> str:
    lines = [
        "# Soak",
        "",
        f"{report['minutes']:g} minutes, {report['nodes']} nodes, {report['verdicts']:,} verdicts,",
        f"{report['writes']:,} writes, {report['violations']} violations.",
        f"`make soak MINUTES={report['minutes']:g}`; the plot is `soak.svg`.",
        "",
        "| what | mean of the second half | grown in it | allowed | flat |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in report["trends"]:
        allowed = "" if one["allowed"] is None else f"{one['allowed']:.2f}"
        flat = "yes" if one["is_flat"] else "**no**"
        lines.append(f"| {one['name']} | {one['mean']:,.2f} | {one['grown']:+.2f} | {allowed} | {flat} |")
    lines += [f"\nViolation: {one['what']}: {one['text']}" for one in report["shown"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
