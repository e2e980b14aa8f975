"""The cost of one check in the examples of `docs/in-process.md`, in ns: programs in C, Go, Java and Node that ask libgate.

    .venv/bin/python -m loadtests.micro.in_process [--scale 1] [--rounds 5] [--json]

It builds libgate, puts the benchmark's facts straight into a Replica (scale 1: a million Users, five million entries), builds
each example with the page's own commands, and runs them in turns. Shown are the medians over the rounds of what they print:
the best of many short rounds within a run, so that other programs on the machine matter little.

An example whose toolchain is not here is left out, and named. `tests/native/test_in_process.py` uses the same commands.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from gate.core.model import FOREVER_MS, AppFacts, ListKind, UserFacts
from gate.core.revision import Position
from gate.core.snapshot import AppPart, ListPart, Part, UserPart
from gate.replica.bulk import SnapshotBuild
from gate.replica.files import make_current
from gate.replica.layout import facts_name
from gate.replica.writer import FactsFile
from loadtests.bench.facts import FactSet, user_id

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "in-process.md"
EXAMPLES = REPOSITORY / "examples" / "in-process"
LANGUAGES = ("C", "Go", "Java", "Node")
MEASURES = ("hot", "uniform")
HEADERS = REPOSITORY / ".venv" / "clients" / "headers" / "node_modules"
"""Where `scripts/install-clients` puts what the page's `npm ci` brings."""

APP_KEY = "app"
CHECKS = 2_000_000
PARTS_AT_ONCE = 5_000


def commands(language: str, arguments: str = "") -> str:
    """The page's block for the language, but for npm's line; `arguments` are added to the run."""
    block = PAGE.read_text().split(f"\n### {language}\n")[1].split("```sh\n")[1].split("```")[0]
    kept = "\n".join(line for line in block.splitlines() if not line.startswith("npm "))
    return kept.replace("cases.txt", f"cases.txt {arguments}")


def lay_out(clone: Path, libgate: Path, data: Path) -> None:
    """As much of a clone as the commands name, after `make libgate` and `npm ci`."""
    shutil.copytree(libgate, clone / "build", dirs_exist_ok=True)
    shutil.copytree(EXAMPLES, clone / "examples" / "in-process", ignore=shutil.ignore_patterns("node_modules"))
    (clone / "examples/in-process/node/node_modules").symlink_to(HEADERS)
    (clone / "gate-data").symlink_to(data)


def run(clone: Path, script: str, key: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """The commands, in the clone."""
    go_cache = str(REPOSITORY / ".venv" / "clients" / "go-cache")
    env = {**os.environ, "KEY": key, "GO111MODULE": "off", "GOFLAGS": "", "GOCACHE": go_cache}
    return subprocess.run(
        ["bash", "-euc", script], cwd=clone, env=env, capture_output=True, text=True, timeout=timeout_s
    )


def load(directory: Path, scale: float) -> int:
    """The benchmark's facts as the current facts file of `directory`; returns how many Users there are."""
    facts = FactSet(scale)
    directory.mkdir(parents=True)
    file = FactsFile.create(directory / facts_name(1), 1)
    build = SnapshotBuild(file, directory / "facts-1.loading")
    parts = _parts(facts)
    while some := list(islice(parts, PARTS_AT_ONCE)):
        build.add(some)
    for _ in build.steps():
        pass
    build.close()
    file.finish([Position("0" * 16, 0, "")], 1)
    make_current(file.path)
    file.close_clean()
    return facts.users


def _parts(facts: FactSet) -> Iterator[Part]:
    yield AppPart(AppFacts(key=APP_KEY, secrets=("secret",)))
    for number in facts.banned:
        yield UserPart(APP_KEY, user_id(number), UserFacts(banned_until_ms=facts.until_ms))
    for number in facts.muted:
        yield UserPart(APP_KEY, user_id(number), UserFacts(muted_until_ms=facts.until_ms))
    for owned in facts.lists():
        owner = user_id(owned.owner)
        if owned.kind is ListKind.WHITELIST:
            yield UserPart(APP_KEY, owner, UserFacts(whitelist_on=True))
        for members, until_ms in ((owned.members, FOREVER_MS), (owned.ending, facts.until_ms)):
            if members:
                yield ListPart(APP_KEY, owned.kind, owner, tuple(map(user_id, members)), until_ms)


def measured(scratch: Path, scale: float, rounds: int) -> dict[str, dict[str, float] | str]:
    """ns a check by language and measure, or why it is left out."""
    libgate = scratch / "libgate"
    subprocess.run([REPOSITORY / "scripts" / "make-libgate", libgate], check=True)
    users = load(scratch / "data" / "replica", scale)
    lay_out(scratch, libgate, scratch / "data")
    (scratch / "examples/in-process/cases.txt").write_text("# no facts of these here\n")
    printed: dict[str, list[dict[str, float]]] = {language: [] for language in LANGUAGES}
    absent: dict[str, dict[str, float] | str] = {}
    for _ in range(rounds):
        for language in LANGUAGES:
            if language not in absent:
                ended = run(scratch, commands(language, f"{users} {CHECKS}"), APP_KEY, 600)
                if ended.returncode != 0:
                    absent[language] = ended.stderr.strip()[-300:]
                    continue
                words = dict(line.split() for line in ended.stdout.splitlines())
                printed[language].append({measure: float(words[measure]) for measure in MEASURES})
    return absent | {
        language: {measure: statistics.median(one[measure] for one in runs) for measure in MEASURES}
        for language, runs in printed.items()
        if runs
    }


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description="libgate from C, Go, Java and Node: ns a check")
    options.add_argument("--scale", type=float, default=1.0)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="gate-in-process-") as scratch:
        figures = measured(Path(scratch), chosen.scale, chosen.rounds)
    if chosen.json:
        json.dump(figures, sys.stdout)
        return
    for language in LANGUAGES:
        found = figures[language]
        shown = found if isinstance(found, str) else "  ".join(f"{name} {ns:5.0f} ns" for name, ns in found.items())
        print(f"{language:5} {shown}")


if __name__ == "__main__":
    main()
