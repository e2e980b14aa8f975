"""`make chaos`: faults by a seed against real nodes, and a judge of every answer.

    python -m loadtests.chaos [--seed N] [--minutes 3] [--nodes 3] [--rate 60]
                              [--only FAULT ...] [--without FAULT ...] [--out DIR]

Prints its seed first and where it stands after each storm; writes `chaos.json` and `chaos.md`. Exit status 1 if a promise was
broken: then it prints the seed, the faults with their times, and the history around each violation.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from loadtests.chaos import report
from loadtests.chaos.faults import KINDS
from loadtests.chaos.run import Options, Run, choose_seed
from loadtests.chaos.site import Site
from tests.harness.ending import end_orderly_when_told

RESULTS = Path(__file__).parents[1] / "results"


def main() -> int:
    """Parse, run, report."""
    given = _parser().parse_args()
    end_orderly_when_told()
    seed = choose_seed() if given.seed is None else given.seed
    kinds = {name: kind for name, kind in KINDS.items() if name in (given.only or KINDS) and name not in given.without}
    options = Options(seed, given.minutes * 60, given.nodes, given.rate, kinds=kinds)
    print(
        f"SEED={seed}: {given.minutes:g} minutes, {given.nodes} nodes, {given.rate:g} faults a minute of storm",
        flush=True,
    )
    site = Site(Path(tempfile.mkdtemp(prefix="gate-chaos-")), given.nodes)
    try:
        site.start()
        outcome = asyncio.run(Run(options, site, lambda line: print(line, flush=True)).go())
    finally:
        site.close()
    found = report.as_json(outcome)
    report.write(found, given.out, "chaos")
    print(
        f"{found['faults']} faults ({found['faults_a_minute']} a minute), {found['verdicts']:,} verdicts, {found['writes']:,} "
        f"writes, {found['violations']} violations; written to {given.out / 'chaos.md'}"
    )
    if found["violations"]:
        print(report.failure(found))
    return 1 if found["violations"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.chaos", description="Faults by a seed, and a judge.")
    parser.add_argument("--seed", type=int, default=None, help="of the whole schedule; one of its own unless given")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--nodes", type=int, default=3, choices=(2, 3, 4))
    parser.add_argument("--rate", type=float, default=60.0, help="faults a minute while a storm lasts")
    parser.add_argument("--only", nargs="+", default=[], metavar="FAULT", choices=list(KINDS), help="these faults")
    parser.add_argument("--without", nargs="+", default=[], metavar="FAULT", choices=list(KINDS), help="all but these")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
