"""`make bench`: Gate and what a team would use instead, on the same facts and the same pairs, in one run.

    python -m loadtests.compare [--only ROW ...] [--scale 1.0] [--seconds 1.0] [--rounds 5] [--out FILE]

Prints a table and writes JSON to `loadtests/results/bench.json`. Exit status 1 if a bound is not met. Run it on a machine that
does nothing else; `--scale 0.01` is for seeing it work.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from loadtests.bench.bed import Bed, Options
from loadtests.bench.rows import ROWS
from loadtests.bench.table import RESULTS, Row, show, write
from tests.harness.ending import end_orderly_when_told


def main() -> int:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.compare", description="Gate and its peers side by side.")
    parser.add_argument("--only", nargs="+", metavar="ROW", choices=list(ROWS), help=f"out of {', '.join(ROWS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="1: a million Users, five million edges")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each timed round")
    parser.add_argument("--rounds", type=int, default=5, help="of each figure; the median counts")
    parser.add_argument("--out", type=Path, default=RESULTS / "bench.json", metavar="FILE")
    given = parser.parse_args()
    end_orderly_when_told()
    console = Console(width=None if sys.stdout.isatty() else 160)
    rows: list[Row] = []
    started = time.perf_counter()
    with Bed(Options(given.scale, given.seconds, given.rounds), console) as bed:
        bed.say(f"{bed.facts.users:,} Users, {bed.edges:,} edges")
        for name in given.only or ROWS:
            rows += ROWS[name](bed)
        about = {"users": bed.facts.users, "edges": bed.edges, "seconds": given.seconds, "rounds": given.rounds}
    write(rows, about, given.out)
    show(rows, console)
    console.print(f"{time.perf_counter() - started:.0f} s; written to {given.out}", style="dim")
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
