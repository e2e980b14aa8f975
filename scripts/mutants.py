"""`make mutants`: change the code of a decision in one place, and see whether a test fails.

    .venv/bin/python -m scripts.mutants [--native | --python] [--json] [--continue] [--report] [GLOB...]

Python's mutants are made by mutmut (`[tool.mutmut]` of pyproject.toml names files and tests), which also finds the tests that
call each function, and tried by `scripts/mutant_runner.py`; mutmut can't read C, so the decision of the compiled core is
changed by `scripts/native_mutants.py`. Both work in copies of the tree in `build/mutants`, so that files may be changed
meanwhile; the log is there as well, and `results.jsonl` with the outcomes so far, with which `--continue` goes on. A GLOB
of mutmut's names runs only those: 'gate.core.token.*'. `--report` only judges the outcomes so far.

A mutant that no test finds must stand in `tests/mutants.toml` with its reason: as `equivalent` if no caller can see the change,
else as `survivor`. Exit status 1 if one does not, or if more than `MAX_SURVIVING` of those that are not equivalent survive, in
any part of the code. The table at the end has each part's numbers.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from scripts import native_mutants

ROOT = Path(__file__).parents[1]
REASONS = ROOT / "tests/mutants.toml"
TREE = ROOT / "build/mutants"
NATIVE_TREE = TREE / "native"
RESULTS = TREE / "results.jsonl"
LEAST = "gate.core.signature.*"
"""What mutmut runs itself: it makes all mutants, and looks which tests call what, however few it is to run."""
SEARCHES = {"GATE_TEST_SEED": "1", "GATE_TEST_EXAMPLES": "0.1"}
"""The same draws for each mutant, and few: a mutant that only a long search finds needs a case of its own."""
MAX_SURVIVING = 0.05
SHOW_EVERY_S = 30
ALL = "all"


class Found(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    EQUIVALENT = "equivalent"
    SURVIVING = "surviving"
    UNLISTED = "unlisted"
    """It survived, and `REASONS` does not have it. Counts as surviving."""


class Mutant(NamedTuple):
    """One change of one line. The lines are empty if it was killed."""

    file: str
    before: str
    after: str
    found: Found
    reason: str


Listed = dict[tuple[str, str, str], tuple[Found, str]]


def try_python(globs: Sequence[str]) -> None:
    """mutmut's; one that no test calls survives."""
    mutmut = str(Path(sys.executable).parent / "mutmut")
    made = TREE / "mutants"
    if not (made / "mutmut-stats.json").exists():
        _run([mutmut, "run", LEAST], TREE)
    _run([sys.executable, "-m", "scripts.mutant_runner", str(RESULTS), *globs], made)


def try_native() -> None:
    """One operator or word of the compiled core at a time."""
    _run([sys.executable, "-m", "scripts.native_mutants", str(RESULTS)], NATIVE_TREE)


def _results() -> list[dict[str, object]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def judged(listed: Listed) -> Iterator[Mutant]:
    """All that were tried in this copy so far, each with what `REASONS` says of it."""
    source = (TREE / native_mutants.FILE).read_text()
    native = {place.name: place for place in native_mutants.places(source)}
    for tried in _results():
        name = str(tried["name"])
        if name == native_mutants.UNCHANGED:
            if tried["outcome"] != "survived":
                raise SystemExit("mutants: the compiled core fails its tests unchanged")
            continue
        is_native = name in native
        file = native_mutants.FILE if is_native else "/".join(name.split(".")[:-1]) + ".py"
        if tried["outcome"] not in ("survived", "no tests"):
            yield Mutant(file, "", "", Found.KILLED, "")
            continue
        before, after = (
            native_mutants.changed(source, native[name])
            if is_native
            else _changed(TREE / "mutants" / file, name.rpartition(".")[2])
        )
        found, reason = listed.get((file, before, after), (Found.UNLISTED, ""))
        yield Mutant(file, before, after, found, reason)


def _run(command: list[str], folder: Path) -> None:
    """Run it to its end, and say how far it is."""
    environment = {**os.environ, **SEARCHES, "PYTHONPATH": str(folder)}
    log = TREE / f"{folder.name}.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT) as running,
    ):
        while True:
            try:
                status = running.wait(SHOW_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                tried = len(RESULTS.read_text().splitlines()) if RESULTS.exists() else 0
                print(f"mutants: {tried} tried", file=sys.stderr, flush=True)
    if status != 0:
        raise SystemExit(f"mutants: {command[0]} ended with {status}: see {log}")


def _changed(file: Path, mutant: str) -> tuple[str, str]:
    """What the mutant takes away from its function, and what it adds, each as one line."""
    mangled = mutant.partition("__mutmut_")[0]
    plain = mangled.rpartition("ǁ")[2].removeprefix("x_")
    was, now = (
        _functions(file)[name].replace(name, plain).splitlines() for name in (f"{mangled}__mutmut_orig", mutant)
    )
    diff = list(difflib.unified_diff(was, now, lineterm="", n=0))[2:]
    before, after = ([line[1:].strip() for line in diff if line.startswith(sign)] for sign in "-+")
    return " ".join(before), " ".join(after)


@cache
def _functions(file: Path) -> dict[str, str]:
    """The source of each function by its name: mutmut writes a function for each mutant."""
    source = file.read_text()
    lines = source.splitlines()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return {node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in found}


def copy_tree() -> None:
    """Replace `TREE` by the files of the repository as they are, and the compiled core; `NATIVE_TREE` by the same."""
    shutil.rmtree(TREE, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    files = [Path(os.fsdecode(name)) for name in listed.stdout.split(b"\0") if name]
    for tree in (TREE, NATIVE_TREE):
        for file in (*files, *(one.relative_to(ROOT) for one in (ROOT / "gate/native").glob("*.so"))):
            if (ROOT / file).is_file():  # else it was removed, and that is not committed yet
                (tree / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, tree / file)


def reasons() -> Listed:
    """Why no test finds a mutant, by its file and its line before and after. One reason may be that of several changes."""
    tables = tomllib.loads(REASONS.read_text())
    return {
        (one["file"], one["before"], after): (found, one["reason"])
        for name, found in (("equivalent", Found.EQUIVALENT), ("survivor", Found.SURVIVING))
        for one in tables.get(name, [])
        for after in one["after"]
    }


def part_of(file: str) -> str:
    """The row of the table."""
    return "gate/core" if file.startswith("gate/core/") else file


def table(mutants: Sequence[Mutant]) -> list[dict[str, Any]]:
    """A row for each part of the code, and one for all of it. The share is of those that are not equivalent."""
    counts: defaultdict[str, Counter[Found]] = defaultdict(Counter)
    for one in mutants:
        counts[part_of(one.file)][one.found] += 1
    rows = []
    for part, of in [*sorted(counts.items()), (ALL, sum(counts.values(), Counter[Found]()))]:
        surviving = of[Found.SURVIVING] + of[Found.UNLISTED]
        different = of[Found.KILLED] + surviving
        rows.append(
            {
                "part": part,
                "tried": of.total(),
                "killed": of[Found.KILLED],
                "equivalent": of[Found.EQUIVALENT],
                "surviving": surviving,
                "share": round(surviving / different, 4) if different else 0.0,
            }
        )
    return rows


def unused(listed: Listed, mutants: Sequence[Mutant]) -> list[tuple[str, str, str]]:
    """Entries of `REASONS` that no mutant needs any more, of files of which mutants survived."""
    needed = {one[:3] for one in mutants}
    return [key for key in listed if key[0] in {one.file for one in mutants} and key not in needed]


def show(mutants: Sequence[Mutant]) -> None:
    """Print each that no test found, and the table."""
    for one in sorted(mutants, key=lambda one: (one.found, one.file)):
        if one.found is not Found.KILLED:
            print(f"{one.file} ({one.found})\n  - {one.before}\n  + {one.after}\n  {one.reason or 'NOT LISTED'}")
    line = "{part:32} {tried:>6} {killed:>7} {equivalent:>11} {surviving:>10} {share:>7}"
    print(line.format(**{name: name for name in ("part", "tried", "killed", "equivalent", "surviving", "share")}))
    for row in table(mutants):
        print(line.format(**{**row, "share": f"{row['share']:.1%}"}))


def main() -> int:
    """Run both kinds unless one is asked for, and print what survived."""
    asked = argparse.ArgumentParser(description="Change the code of a decision, and see whether a test fails.")
    asked.add_argument("--native", action="store_true", help="only the compiled core")
    asked.add_argument("--python", action="store_true", help="only Python")
    asked.add_argument("--json", action="store_true", help="print the survivors as JSON")
    asked.add_argument("--continue", action="store_true", dest="goes_on", help="keep the copy and its results so far")
    asked.add_argument("--report", action="store_true", help="only judge the results so far")
    asked.add_argument("globs", nargs="*", metavar="GLOB", help="only these of Python")
    args = asked.parse_args()
    both = args.native == args.python
    if not args.goes_on and not args.report:
        copy_tree()
    if not args.report and (both or args.python):
        try_python(args.globs)
    if not args.report and (args.native or (both and not args.globs)):
        try_native()
    listed = reasons()
    mutants = list(judged(listed))
    unlisted = [one for one in mutants if one.found is Found.UNLISTED]
    rows = table(mutants)
    if args.json:
        found = [one._asdict() for one in mutants if one.found is not Found.KILLED]
        print(json.dumps({"table": rows, "found": found}, indent=1))
    else:
        show(mutants)
        for file, before, after in unused(listed, mutants):
            print(f"no mutant needs this entry of {REASONS.name}: {file}\n  - {before}\n  + {after}")
    return 1 if unlisted or any(row["share"] > MAX_SURVIVING for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
