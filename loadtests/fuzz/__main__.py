"""`make fuzz`: some seconds of each target, two at a time.

    python -m loadtests.fuzz [--seconds 60] [--only TARGET ...] [--seed 1]

Prints how many inputs each target took. Exit status 1 if one of them broke; the input that did is kept and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from harness.ending import exit_on_signals
from loadtests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
AT_ONCE = 2
GRACE_S = 60.0
MAX_BYTES = 4_096
RUNS = re.compile(r"#(\d+)\s+DONE|Done (\d+) runs|stat::number_of_executed_units:\s*(\d+)")


class Found(NamedTuple):
    """How one target fared."""

    name: str
    runs: int
    status: int
    printed: str


def fuzz(name: str, seconds: int, seed: int, folder: Path) -> Found:
    """One target in a process of its own."""
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-max_len={MAX_BYTES}",
        "-print_final_stats=1",
        "-timeout=10",
    ]
    command = [sys.executable, "-m", "loadtests.fuzz.one", name, str(folder / name), *options]
    command.append(f"-artifact_prefix={folder}/{name}-")
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds + GRACE_S, check=False
    )
    printed = done.stdout.decode(errors="replace")
    counted = [int(group) for found in RUNS.finditer(printed) for group in found.groups() if group]
    return Found(name, max(counted, default=0), done.returncode, printed)


def main() -> int:
    """Parse, fuzz, report."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.fuzz", description="Strangers' bytes, under a fuzzer.")
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--only", nargs="+", default=list(TARGETS), metavar="TARGET", choices=list(TARGETS))
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    exit_on_signals()
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: no atheris here: it has wheels for Linux on x86-64 only", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="gate-fuzz-"))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(fuzz, name, given.seconds, given.seed, folder) for name in given.only]
        broken = 0
        for future in futures:
            found = future.result()
            print(f"{found.name}: {found.runs:,} inputs, {'broke' if found.status else 'nothing found'}", flush=True)
            if found.status:
                broken += 1
                print(found.printed[-6_000:])
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
