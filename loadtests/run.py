"""`make load`: two headless minutes of locust against a service of its own.

    python -m loadtests.run [--only USER ...] [--seconds 120] [--scale 0.01] [--html FILE]

Loads facts, lets routers check over RESP and HTTP while app servers change facts and clients of gateways come and go, writes
locust's report to `loadtests/results/load.html` and prints a summary. Exit status 1 if any request failed: a refused one, a
late one, a check that did not show an acknowledged write, or a User who is connected and not online.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from harness.ending import exit_on_signals
from harness.ports import LOOPBACK
from harness.service import GateService
from loadtests.bench.bed import Bed, Options
from loadtests.bench.table import RESULTS
from loadtests.users import target

ROOT = Path(__file__).parents[1]
USERS = ("RespRouter", "HttpRouter", "AppServer", "Gateway", "App", "AppCrowd")
"""Those of `locustfile`, which only locust's own process should import: it patches sockets."""
# Locust stops by its shape; this bound is for a locust that does not.
GRACE_S = 60.0


def main() -> int:
    """Start, load, report, stop."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description="Locust against a service of its own.")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="USER", choices=USERS, help=f"out of {', '.join(USERS)}"
    )
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--scale", type=float, default=0.01, help="of the facts; 1: a million Users")
    parser.add_argument("--html", type=Path, default=RESULTS / "load.html", metavar="FILE")
    given = parser.parse_args()
    exit_on_signals()
    console = Console(width=None if sys.stdout.isatty() else 160)
    given.html.parent.mkdir(parents=True, exist_ok=True)
    with Bed(Options(given.scale), console) as bed:
        stats, status = _locust(bed.node, bed.facts.users, given.seconds, given.html, given.only)
    failures = _show(stats, console)
    console.print(f"report: {given.html}", style="dim")
    if not stats:
        print(f"load: locust ended with {status} and no statistics", file=sys.stderr)
        return 1
    return 1 if failures or status else 0


def _locust(
    node: GateService, users: int, seconds: float, html: Path, only: Sequence[str]
) -> tuple[list[dict[str, Any]], int]:
    credentials = node.credentials
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        target.RESP_VARIABLE: f"{LOOPBACK}:{node.resp_port}",
        target.KEY_VARIABLE: credentials.app_key,
        target.SECRET_VARIABLE: credentials.app_secret,
        target.USERS_VARIABLE: str(users),
        target.SECONDS_VARIABLE: str(seconds),
    }
    host = f"http://{urlsplit(node.http).netloc}"
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py"), "--headless"]
    command += [
        "--host",
        host,
        "--html",
        str(html),
        "--json",
        "--only-summary",
        "--loglevel",
        "WARNING",
        "--stop-timeout",
        "5",
        *only,
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds + GRACE_S, check=False
    )
    if done.returncode:
        # Locust's own words: its table of errors, or why it did not start.
        print(done.stderr, file=sys.stderr)
    stats: list[dict[str, Any]] = json.loads(done.stdout) if done.stdout.strip().startswith("[") else []
    return stats, done.returncode


def _show(stats: list[dict[str, Any]], console: Console) -> int:
    """The summary; how many requests failed."""
    table = Table(title="Load", title_justify="left")
    for heading in ("request", "count", "failures", "per s", "median ms", "p99 ms"):
        table.add_column(heading, justify="left" if heading == "request" else "right")
    failures = 0
    for entry in stats:
        failures += entry["num_failures"]
        elapsed_s = max(1e-9, entry["last_request_timestamp"] - entry["start_time"])
        table.add_row(
            entry["name"],
            f"{entry['num_requests']:,}",
            f"{entry['num_failures']:,}",
            f"{entry['num_requests'] / elapsed_s:,.0f}",
            f"{_percentile_ms(entry, 0.5):g}",
            f"{_percentile_ms(entry, 0.99):g}",
        )
    console.print(table)
    return failures


def _percentile_ms(entry: dict[str, Any], share: float) -> float:
    """Out of locust's histogram of rounded times."""
    counts = sorted((float(time_ms), count) for time_ms, count in entry["response_times"].items())
    left = share * entry["num_requests"]
    for time_ms, count in counts:
        left -= count
        if left <= 0:
            return time_ms
    return counts[-1][0] if counts else 0.0


if __name__ == "__main__":
    sys.exit(main())
