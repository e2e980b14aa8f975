"""`python -m loadtests.scale`: what checks cost over a hundred million list entries, against over a million.

    python -m loadtests.scale [--entries 1e6 5e7 1e8] [--rounds 5] [--seconds 0.6] [--keep DIR] [--out FILE]

Facts go straight into the Replica's own loader (`made`), since a Redis with a hundred million entries would not fit into this
machine. Then a node is started over each size, with a Redis that is not there, and all are asked in turn within each round:

    as elsewhere  400,000 pairs of random Users, again and again: what `make bench` asks too. At 100 M entries these are some
                  780,000 of 20 M Users, which the worker's cache holds
    many          1,500,000 pairs, so that 2.8 M Users are active, more than the cache holds
    zipf          400,000 pairs in which few Users get most messages

Says first how long it takes. `--keep` leaves the made files in a directory and takes what is there, which is most of the time.
A run of the default sizes writes `loadtests/results/scale.json`, the plot, and the tables that show it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from gate.core.model import AppFacts
from gate.replica.reader import app_of
from gate.replica.reading import Reading
from harness.ending import exit_on_signals
from harness.ports import LOOPBACK, free_port
from harness.processes import family
from harness.servers import RedisServer
from harness.service import GateService
from harness.waiting import wait_until
from loadtests.bench.apart import Apart
from loadtests.bench.client import ask
from loadtests.bench.load import SOURCE, Load, Script, build, run
from loadtests.bench.pairs import Pair, Spread, make_pairs
from loadtests.bench.systems import prepared
from loadtests.bench.systems.gate import GateSystem
from loadtests.bench.table import machine
from loadtests.bench.turns import ratio, summary
from loadtests.scale import made, shown

SIZES = (1_000_000, 50_000_000, 100_000_000)
PIPELINE, CONNECTIONS = 64, 50
WORKLOADS: dict[str, tuple[Spread, int]] = {
    "as elsewhere": ("uniform", 400_000),
    "many": ("uniform", 1_500_000),
    "zipf": ("zipf", 400_000),
}
WARM_PER_S = 250_000
"""Pairs asked before the clock starts, all of them at least once: then pages are mapped, and the cache has grown."""
STARTS = 3
FIRST_CHECK_WITHIN_S = 60.0
SCRUB_WITHIN_S = 1_800.0
MADE_PER_S = 400_000
"""Entries made up and loaded, on a quiet machine of 2 cores; and what the rest takes, below: to say how long a run takes."""
REST_S = 150
BYTES_AN_ENTRY = 60
"""Of disk, while a file is loaded; half of it is given back at the end."""
MADE_FILE = "made.json"
LEAST_RATIO, MOST_BYTES, MOST_START_S = 0.7, 32, 0.5


def main() -> int:
    """Make or take what is there, measure, report."""
    given = _given()
    exit_on_signals()
    console = Console(width=None if sys.stdout.isatty() else 160)
    sizes = sorted({int(size) for size in given.entries})
    with ExitStack() as stack:
        kept = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gate-scale-")))
        sites = [Site(kept / str(size), size, console) for size in sizes]
        missing = sum(site.entries for site in sites if not site.is_made)
        say(
            console,
            f"takes about {(missing / MADE_PER_S + REST_S) / 60:.0f} minutes, and {missing * BYTES_AN_ENTRY / 1e9:.1f} GB in "
            f"{kept}{' (kept)' if given.keep else ' until it ends'}",
        )
        figures = _measured(sites, given, kept, console)
    report = {"machine": machine(), "rounds": given.rounds, "seconds": given.seconds, "sizes": figures}
    report["judged"] = judged = shown.judged(report, LEAST_RATIO, MOST_BYTES, MOST_START_S)
    shown.write(report, given.out)
    if given.out == shown.REPORT:
        shown.publish()
    console.print(shown.table(report), markup=False, highlight=False, soft_wrap=True)
    for line in judged:
        console.print(f"{'met' if line['met'] else 'NOT MET'}: {line['what']}: {line['measured']} ({line['bound']})")
    say(console, f"written to {given.out}")
    return 0 if all(line["met"] for line in judged) else 1


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.scale", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--entries", nargs="+", type=float, default=SIZES, metavar="N", help="sizes, as 1e6")
    parser.add_argument("--rounds", type=int, default=5, help="of each figure, of which the median counts")
    parser.add_argument("--seconds", type=float, default=0.6, help="of each round and size")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="make the files there unless they are there, and leave them"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the report")
    given = parser.parse_args()
    if given.out is None:
        whole = sorted(map(int, given.entries)) == sorted(SIZES)
        given.out = shown.REPORT if whole else shown.REPORT.with_name("bench-scale.json")
    return given


class Site:
    """A data directory with one size of facts."""

    def __init__(self, folder: Path, entries: int, console: Console) -> None:
        self.folder = folder
        self.entries = entries
        self.data = folder / "node"
        self._console = console

    @property
    def is_made(self) -> bool:
        return (self.folder / MADE_FILE).exists()

    @property
    def made(self) -> dict[str, Any]:
        """The costs of the loading."""
        figures: dict[str, Any] = json.loads((self.folder / MADE_FILE).read_text())
        return figures

    def make(self) -> None:
        """Load the facts unless they are there."""
        if self.is_made:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        app = self._first_app()
        with Apart(made.build, self.data, app, made.users_for(self.entries), nice=0) as work:
            while (word := work.hear())[0] == "at":
                _, elapsed_s, loaded, disk = word
                where = "read" if loaded < self.entries else "written"
                say(
                    self._console,
                    f"{self.entries:,}: {loaded:,} {where}, {elapsed_s:.0f} s, {disk / 1e9:.1f} GB on disk",
                )
        (self.folder / MADE_FILE).write_text(json.dumps(word[1]))

    def start(self) -> GateService:
        """A node over the facts, without a Redis. Returns when it has answered a check."""
        node = GateService.start(self.data, redis_url=f"redis://{LOOPBACK}:{free_port()}", workers=1, wait=False)
        try:
            wait_until(lambda: self._answers(node), FIRST_CHECK_WITHIN_S, "a first check")
        except BaseException:
            node.kill_all()
            raise
        return node

    def _first_app(self) -> AppFacts:
        """Of a node that had a Redis once, which leaves credentials and the App that they are for."""
        server = RedisServer.start("valkey-9", self.folder / "store", aof=True)
        try:
            GateService.start(self.data, redis_url=server.url, workers=1).stop()
        finally:
            server.stop()
        key = json.loads((self.data / "credentials.json").read_text())["app_key"]
        replica = Reading(self.data)
        try:
            with replica as snapshot:
                app = app_of(snapshot, key).app
        finally:
            replica.close()
        return app

    def _answers(self, node: GateService) -> bool:
        system = GateSystem(node, node.credentials)
        try:
            with system.connect() as connection:
                ask(connection, system.commands(PAIR)[0], 1)
        except ConnectionRefusedError:
            return False
        return True


PAIR: Pair = (b"%012d" % 1, b"%012d" % 2)


def _measured(sites: list[Site], given: argparse.Namespace, scratch: Path, console: Console) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    for site in sites:
        site.make()
        figures.append({"asked_for": site.entries, **site.made, **_in_process(site), "start_s": _starts(site)})
        say(console, f"{site.entries:,}: {shown.in_short(figures[-1])}")
    with ExitStack() as stack:
        client = build(
            SOURCE, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gate-scale-client-"))) / "load"
        )
        nodes: list[GateService] = []
        for site, of in zip(sites, figures, strict=True):
            nodes.append(stack.enter_context(_running(site)))
            of["scrub_s"] = _scrub_s(nodes[-1])
            say(console, f"{of['asked_for']:,}: scrubbed in {of['scrub_s']} s")
        for name, (spread, count) in WORKLOADS.items():
            say(console, f"{name}: {count:,} {spread} pairs, pipeline {PIPELINE}, {CONNECTIONS} connections")
            loads = _in_turn(client, nodes, figures, spread, count, given, scratch)
            for of, ours in zip(figures, loads, strict=True):
                against = ratio([one.per_s for one in ours], [one.per_s for one in loads[0]])
                checks = {"pairs": count, **summary(ours), "to_least": round(against.median, 2)}
                of.setdefault("checks", {})[name] = checks
                rate = f"{checks['checks_per_s']:,}/s, {checks['cpu_us']:.2f} us"
                say(console, f"{of['asked_for']:,}: {rate} of the server's CPU a check, {against}")
        for node, of in zip(nodes, figures, strict=True):
            of["worker_memory_bytes"], of["worker_mapped_bytes"] = _worker_memory(node)
    return figures


def _in_process(site: Site) -> dict[str, Any]:
    """`gate.Replica` in a program of its own."""
    command = [sys.executable, "-m", "loadtests.scale.asked", str(site.data), str(site.made["users"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _starts(site: Site) -> list[float]:
    """Seconds from the start of the command to a first answered check."""
    seconds = []
    for _ in range(STARTS):
        began = time.perf_counter()
        node = site.start()
        seconds.append(round(time.perf_counter() - began, 3))
        node.stop()
    return seconds


@contextmanager
def _running(site: Site) -> Iterator[GateService]:
    with site.start() as node:
        yield node


def _scrub_s(node: GateService) -> float:
    """Wait for the scrub that a node begins soon after its start, so that it is not a part of what is measured then."""
    wait_until(lambda: _scrubs(node), 30.0, "a scrub to begin")
    began = time.monotonic()
    wait_until(lambda: not _scrubs(node), SCRUB_WITHIN_S, "the scrub to end")
    return round(time.monotonic() - began, 1)


def _scrubs(node: GateService) -> bool:
    return any("probe.py scrub" in one.command for one in family(node.pid))


def _in_turn(
    client: Path,
    nodes: list[GateService],
    figures: list[dict[str, Any]],
    spread: Spread,
    count: int,
    given: argparse.Namespace,
    scratch: Path,
) -> list[list[Load]]:
    """Each size in each round, one after the other."""
    scripts: list[Script] = []
    try:
        for number, (node, of) in enumerate(zip(nodes, figures, strict=True)):
            pairs = make_pairs(spread, of["users"], count)
            script, _ = prepared(GateSystem(node, node.credentials), pairs, scratch / f"{number}.script")
            scripts.append(script)
            run(
                client, script, PIPELINE, CONNECTIONS, count / 250_000
            )  # until all of it was asked: the cache is what it will be
        loads: list[list[Load]] = [[] for _ in nodes]
        for _ in range(given.rounds):
            for ours, script in zip(loads, scripts, strict=True):
                ours.append(run(client, script, PIPELINE, CONNECTIONS, given.seconds))
        return loads
    finally:
        for script in scripts:
            script.path.unlink()


def _worker_memory(node: GateService) -> tuple[int, int]:
    """A worker's own memory, and what it has mapped of the facts file, which all processes share."""
    worker = next(one.pid for one in family(node.pid) if "role worker" in one.command)
    rows = Path(f"/proc/{worker}/status").read_text().splitlines()
    kept = {row.split(":")[0]: int(row.split()[1]) * 1_024 for row in rows if row.startswith(("RssAnon", "RssFile"))}
    return kept["RssAnon"], kept["RssFile"]


def say(console: Console, line: str) -> None:
    console.print(line, style="dim", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
