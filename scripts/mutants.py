"""`make mutants`: change the code of a decision in one place, and see whether a test fails.

    .venv/bin/python scripts/mutants.py [--native | --python] [--json] [--continue] [GLOB...]

Python's mutants are made by mutmut (`[tool.mutmut]` of pyproject.toml names files and tests), which also finds the tests that
call each function, and tried by `scripts/mutant_runner.py`; mutmut can't read C, so the decision of the compiled core is
changed here, an operator at a time, and built and asked again by `NATIVE_TESTS`. Both work in a copy of the tree,
`build/mutants`, so that files may be changed meanwhile; the log is there as well, and the results so far, with which
`--continue` goes on. A GLOB of mutmut's names runs only those: 'gate.core.token.*'.

A mutant that no test finds must stand in `tests/mutants.toml`, with the reason why it may survive. Exit status 1 if one
does not, or if more than `MAX_SURVIVING` of them survive.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
REASONS = ROOT / "tests/mutants.toml"
TREE = ROOT / "build/mutants"
LOG = TREE / "run.log"
RESULTS = TREE / "results.jsonl"
LEAST = "gate.core.signature.*"
"""What mutmut runs itself: it makes all mutants, and looks which tests call what, however few it is to run."""
SEARCHES = {"GATE_TEST_SEED": "1", "GATE_TEST_EXAMPLES": "0.1"}
"""The same draws for each mutant, and few: a mutant that only a long search finds needs a case of its own."""
MAX_SURVIVING = 0.05
SHOW_EVERY_S = 30
BUILD_AND_TEST_TIMEOUT_S = 300
"""A mutant may loop for ever: that is found as well as a wrong answer is."""
NATIVE = "gate/native/users.c"
NATIVE_FIRST, NATIVE_LAST = "/* Decisions */", "#undef SOONER"
"""The part of `NATIVE` that decides; what lies around it is looked at by the fuzz under the sanitizers."""
NATIVE_TESTS = ("tests/native/test_answers.py", "tests/native/test_rules.py", "tests/core/test_cases.py")
NATIVE_CHANGES = (
    (r"&&", "||"),
    (r"\|\|", "&&"),
    (r"==", "!="),
    (r"!=", "=="),
    (r" > ", " >= "),
    (r"!(?=\(|users->|of->)", ""),
    (r"\breturn 0;", "return 1;"),
    (r"ASKS_EVERYTHING(?=[);])", "ASKS_NOTHING"),
    (r"ASKS_WHITELIST(?= :)", "ASKS_BLACKLIST"),
    (r"GATE_ALLOWED(?=;| :)", "GATE_BLACKLISTED"),
    (r"GATE_(?:NOT_WHITELISTED|BLACKLISTED)(?=;| :)", "GATE_ALLOWED"),
    (r"\? EXEMPT : 0", "? 0 : EXEMPT"),
)


class Mutant(NamedTuple):
    """One change of one line, and whether no test failed because of it."""

    file: str
    before: str
    after: str
    survived: bool


def python_mutants(globs: Sequence[str]) -> Iterator[Mutant]:
    """mutmut's; one that no test calls survives."""
    mutmut = str(Path(sys.executable).parent / "mutmut")
    made = TREE / "mutants"
    if not (made / "mutmut-stats.json").exists():
        _run([mutmut, "run", LEAST], TREE)
    _run([sys.executable, "-m", "scripts.mutant_runner", str(RESULTS), *globs], made)
    for line in RESULTS.read_text().splitlines():
        tried = json.loads(line)
        name, survived = tried["name"], tried["outcome"] in ("survived", "no tests")
        if globs and not any(fnmatch.fnmatch(name, glob) for glob in globs):
            continue
        file = "/".join(name.split(".")[:-1]) + ".py"
        before, after = _changed(made / file, name.rpartition(".")[2]) if survived else ("", "")
        yield Mutant(file, before, after, survived)


def _run(command: list[str], folder: Path) -> None:
    """Run it to its end, and say how far it is."""
    environment = {**os.environ, **SEARCHES, "PYTHONPATH": str(folder)}
    with (
        LOG.open("wb") as out,
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
        raise SystemExit(f"mutants: {command[0]} ended with {status}: see {LOG}")


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
    """Replace `TREE` by the files of the repository as they are, and the compiled core."""
    shutil.rmtree(TREE, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    files = [Path(os.fsdecode(name)) for name in listed.stdout.split(b"\0") if name]
    for file in (*files, *(one.relative_to(ROOT) for one in (ROOT / "gate/native").glob("*.so"))):
        if (ROOT / file).is_file():  # else it was removed, and that is not committed yet
            (TREE / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, TREE / file)


def native_mutants() -> Iterator[Mutant]:
    """Each change at each place of the deciding part."""
    source = (ROOT / NATIVE).read_text()
    first, last = source.index(NATIVE_FIRST), source.index(NATIVE_LAST)
    places = sorted(
        (found.start(), found.end(), found.expand(new))
        for pattern, new in NATIVE_CHANGES
        for found in re.finditer(pattern, source[:last])
        if found.start() >= first and not _is_comment(source, found.start())
    )
    for number, (start, end, new) in enumerate(places, 1):
        changed = source[:start] + new + source[end:]
        (TREE / NATIVE).write_text(changed)
        print(f"mutants: {number}/{len(places)} of {NATIVE}", file=sys.stderr, flush=True)
        at = source.count("\n", 0, start)
        yield Mutant(NATIVE, source.split("\n")[at].strip(), changed.split("\n")[at].strip(), _passes())


def _is_comment(source: str, at: int) -> bool:
    return source.rfind("/*", 0, at) > source.rfind("*/", 0, at)


def _passes() -> bool:
    """Whether the copy builds and all its tests pass."""
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    tests = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *NATIVE_TESTS]
    environment = {**os.environ, **SEARCHES, "PYTHONPATH": str(TREE), "GATE_NATIVE": "1"}
    for command in (build, tests):
        try:
            done = subprocess.run(
                command, cwd=TREE, env=environment, capture_output=True, timeout=BUILD_AND_TEST_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        if done.returncode != 0:
            return False
    return True


def reasons() -> dict[tuple[str, str, str], str]:
    """Why a mutant may survive, by its file and its line before and after. One reason may be that of several changes."""
    listed = tomllib.loads(REASONS.read_text()).get("survivor", [])
    return {(one["file"], one["before"], after): one["reason"] for one in listed for after in one["after"]}


def main() -> int:
    """Run both kinds unless one is asked for, and print what survived."""
    asked = argparse.ArgumentParser(description="Change the code of a decision, and see whether a test fails.")
    asked.add_argument("--native", action="store_true", help="only the compiled core")
    asked.add_argument("--python", action="store_true", help="only Python")
    asked.add_argument("--json", action="store_true", help="print the survivors as JSON")
    asked.add_argument("--continue", action="store_true", dest="goes_on", help="keep the copy and its results so far")
    asked.add_argument("globs", nargs="*", metavar="GLOB", help="only these of Python")
    args = asked.parse_args()
    both = args.native == args.python
    if not args.goes_on:
        copy_tree()
    mutants = [
        *(python_mutants(args.globs) if both or args.python else ()),
        *(native_mutants() if both or args.native else ()),
    ]
    survivors, known = [one for one in mutants if one.survived], reasons()
    unexplained = [one for one in survivors if one[:3] not in known]
    share = len(survivors) / len(mutants)
    if args.json:
        found = [{**one._asdict(), "reason": known.get(one[:3], "")} for one in survivors]
        print(json.dumps({"mutants": len(mutants), "survivors": found}, indent=1))
    else:
        for one in survivors:
            print(
                f"{one.file}\n  - {one.before}\n  + {one.after}\n  {known.get(one[:3], 'NO REASON in tests/mutants.toml')}"
            )
        print(f"{len(mutants)} mutants, {len(survivors)} survived ({share:.1%}), {len(unexplained)} without a reason")
    return 1 if unexplained or share > MAX_SURVIVING else 0


if __name__ == "__main__":
    raise SystemExit(main())
