"""`make chaos`: faults by a seed against real nodes, and a judge of every answer.

    python -m loadtests.chaos [--redis server|sentinel|cluster] [--durability local|replica] [--seed N] [--minutes 3]
                              [--nodes 3] [--rate 60] [--only FAULT ...] [--without FAULT ...] [--out DIR]

Behind Sentinels or a cluster, `--durability replica` (the default there) demands that no failover loses an acknowledged write.
Prints its seed first and where it stands after each storm; writes `chaos.json` and `chaos.md`. Exit status 1 if a promise was
broken: then it prints the seed, the faults with their times, and the history around each violation.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from harness import partitions
from harness.ending import exit_on_signals
from loadtests.chaos import report
from loadtests.chaos.faults import FAULTS, Table
from loadtests.chaos.run import Options, Run, choose_seed
from loadtests.chaos.site import Site
from loadtests.chaos.topologies import SITES
from loadtests.chaos.topology_faults import TOPOLOGY_FAULTS

RESULTS = Path(__file__).parents[1] / "results"


def main() -> int:
    """Parse, run, report."""
    given = _parser().parse_args()
    exit_on_signals()
    seed = choose_seed() if given.seed is None else given.seed
    faults = _chosen(given)
    if given.redis == "server":
        durability = "local"
    else:
        partitions.run_apart("loadtests.chaos", [*sys.argv[1:], "--seed", str(seed)])
        durability = given.durability
    if partitions.is_apart():
        partitions.prepare()
    options = Options(seed, given.minutes * 60, given.nodes, given.rate, True, faults, given.redis, durability)
    print(
        f"SEED={seed}: {given.minutes:g} minutes, {given.nodes} nodes, {given.redis}, durability {durability}, "
        f"{given.rate:g} faults a minute of storm",
        flush=True,
    )
    folder = Path(tempfile.mkdtemp(prefix="gate-chaos-"))
    site = Site(folder, given.nodes) if given.redis == "server" else SITES[given.redis](folder, given.nodes, durability)
    try:
        site.start()
        outcome = asyncio.run(Run(options, site, lambda line: print(line, flush=True)).go())
    finally:
        site.close()
    found = report.as_json(outcome)
    name = "chaos" if given.redis == "server" else f"chaos-{given.redis}"
    report.write(found, given.out, name)
    print(
        f"{found['faults']} faults ({found['faults_a_minute']} a minute), {found['verdicts']:,} verdicts, {found['writes']:,} "
        f"writes, {found['violations']} violations; written to {given.out / name}.md"
    )
    if found["violations"]:
        print(report.failure(found))
    return 1 if found["violations"] else 0


def _chosen(given: argparse.Namespace) -> Table:
    table = TOPOLOGY_FAULTS.get(given.redis, FAULTS)
    unknown = [name for name in (*given.only, *given.without) if name not in table]
    if unknown:
        raise SystemExit(f"there is no fault {unknown[0]}: there are {', '.join(table)}")
    return {name: row for name, row in table.items() if name in (given.only or table) and name not in given.without}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.chaos", description="Faults by a seed, and a judge.")
    parser.add_argument("--seed", type=int, default=None, help="of the whole schedule; one of its own unless given")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--nodes", type=int, default=3, choices=(2, 3, 4))
    parser.add_argument("--rate", type=float, default=60.0, help="faults a minute while a storm lasts")
    parser.add_argument("--redis", default="server", choices=("server", *SITES), help="one server unless given")
    parser.add_argument("--durability", default="replica", choices=("local", "replica"))
    parser.add_argument("--only", nargs="+", default=[], metavar="FAULT", help="these faults")
    parser.add_argument("--without", nargs="+", default=[], metavar="FAULT", help="all but these")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
