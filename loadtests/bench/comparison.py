"""`make bench`: Gate and what a team would use instead, on the same facts and the same pairs, in one run.

    python -m loadtests.compare [--quick] [--only ROW ...] [--scale 1.0] [--seconds 0.6] [--rounds 5] [--out FILE]

Says first how long it will take, prints each row as soon as it is measured, and all of them as a table at the end. A whole
run writes `loadtests/results/bench.json`, draws the plot and fills the README's tables. Exit status 1 if a bound is not met.
Run it on a machine that does nothing else. `--quick` takes under two minutes: a fiftieth of the facts, short rounds, no
WebSockets, no floods, no peers in-process.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harness.ending import exit_on_signals
from loadtests import plot
from loadtests.bench.bed import Bed
from loadtests.bench.load import NoCompiler, WrongReply
from loadtests.bench.plan import QUICK_ROWS, Plan, plan
from loadtests.bench.rows import ROWS
from loadtests.bench.table import Row, show, show_row, write


def main() -> int:
    """Parse, announce, measure, report."""
    planned = _planned()
    exit_on_signals()
    console = Console(width=None if sys.stdout.isatty() else 160)
    _announce(planned, console)
    started = time.perf_counter()
    rows, took_s, about = _measure(planned, console)
    write(rows, about | {"took_s": took_s}, planned.out)
    show(rows, console)
    console.print(f"{time.perf_counter() - started:.0f} s; written to {planned.out}", style="dim", soft_wrap=True)
    if planned.is_whole:
        plot.publish()
        console.print(f"drawn: {plot.PLOT}; figures of {plot.README} filled in", style="dim", soft_wrap=True)
    return 0 if all(row.met is not False for row in rows) else 1


def _planned() -> Plan:
    parser = argparse.ArgumentParser(prog="python -m loadtests.compare", description="Gate and its peers side by side.")
    parser.add_argument("--quick", action="store_true", help="under two minutes: fewer rows, small, no bound is judged")
    parser.add_argument("--only", nargs="+", metavar="ROW", choices=list(ROWS), help=f"out of {', '.join(ROWS)}")
    parser.add_argument("--scale", type=float, help="1 (the default): a million Users, five million edges")
    parser.add_argument("--seconds", type=float, help="of each timed round; 0.6 by default")
    parser.add_argument("--rounds", type=int, help="of each figure, of which the median counts; 5 by default")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the report; bench.json for a whole run by default")
    given = parser.parse_args()
    return plan(list(ROWS), given.only, given.scale, given.seconds, given.rounds, given.out, given.quick)


def _announce(planned: Plan, console: Console) -> None:
    lines = [f"{len(planned.rows)} subjects; takes {planned.expected()}"]
    if planned.is_quick:
        left_out = [name for name in ROWS if name not in QUICK_ROWS]
        lines += [f"left out: {', '.join(left_out)}; its figures are of small facts, and no bound is judged"]
    elif planned.is_whole:
        lines += ["--quick takes under two minutes"]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _measure(planned: Plan, console: Console) -> tuple[list[Row], dict[str, float], dict[str, int | float]]:
    """The rows, how long each subject took, and what they were measured on."""
    rows: list[Row] = []
    took_s: dict[str, float] = {}
    options = planned.options
    begun = time.perf_counter()
    with Bed(options, console) as bed:
        bed.say(f"{bed.facts.users:,} Users, {bed.edges:,} edges")
        for number, name in enumerate(planned.rows, 1):
            if not planned.may_begin(time.perf_counter() - begun):
                console.print(f"left out, because the machine is busy: {', '.join(planned.rows[number - 1 :])}")
                break
            bed.say(f"{number} of {len(planned.rows)}: {name}")
            started = time.perf_counter()
            measured = rows_of(name, bed)
            took_s[name] = round(time.perf_counter() - started, 1)
            if planned.is_quick:
                measured = [replace(row, met=None) for row in measured]
            for row in measured:
                show_row(row, console)
            rows += measured
        about = {"users": bed.facts.users, "edges": bed.edges, "seconds": options.seconds, "rounds": options.rounds}
    return rows, took_s, about


def rows_of(name: str, bed: Bed) -> list[Row]:
    """The rows of a subject. Without a compiler there are none; a wrong reply ends the subject, whose bound then is not met."""
    try:
        return ROWS[name](bed)
    except NoCompiler as missing:
        return [Row(name, name, "", str(missing), None)]
    except WrongReply as wrong:
        return [Row(name, name, "every reply as it was before the clock started", str(wrong), met=False)]
