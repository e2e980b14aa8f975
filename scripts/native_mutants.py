"""Mutants of the compiled core's decision: one operator or word of `gate/native/users.c` changed at a time.

    cd build/mutants/native; python -m scripts.native_mutants RESULTS

All are built into one core, each as a copy of the file with names of its own: what the rest of the core calls of it
(`DECIDING`) jumps to the copy that `gate_mutant` numbers, 0 for the file as it is. So a mutant costs a fork of the process
that collected the tests, as one of Python does (`scripts/mutant_runner.py`). The unchanged file has to pass first.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.mutant_runner import OPTIONS, Mutating

FILE = "gate/native/users.c"
HEADER = "gate/native/core.h"
FIRST = "/* Decisions */"
"""Where the part of `FILE` that decides begins, to its end; the rest is looked at by the fuzz under the sanitizers."""
DECIDING = ("gate_standing", "gate_judge", "gate_judge_many", "gate_word", "gate_decide")
"""The functions of that part that the rest of the core calls."""
TESTS = (
    "tests/native/test_answers.py",
    "tests/native/test_rules.py",
    "tests/replica/test_app_reading.py",
    "tests/replica/test_pairs_of_text.py",
    "tests/replica/test_reading.py",
)
CFLAGS = ("-O1", "-g0", "-std=c11", "-fPIC", "-D_GNU_SOURCE", "-w")
UNCHANGED = "unchanged"
MOST_TEST_S = 0.5
"""Of CPU time, of a test without a mutant."""
CHANGES = (
    (r"&&", "||"),
    (r"\|\|", "&&"),
    (r"==", "!="),
    (r"!=", "=="),
    (r" > ", " >= "),
    (r" <= ", " < "),
    (r"!(?=\(|users->|of->)", ""),
    (r"\breturn 0;", "return 1;"),
    (r"ASKS_EVERYTHING(?=[);])", "ASKS_NOTHING"),
    (r"ASKS_WHITELIST(?= :)", "ASKS_BLACKLIST"),
    (r"GATE_ALLOWED(?=;| :)", "GATE_BLACKLISTED"),
    (r"GATE_(?:NOT_WHITELISTED|BLACKLISTED|SENDER_\w+|RECIPIENT_\w+)(?=;| :)", "GATE_ALLOWED"),
    (r"\? EXEMPT : 0", "? 0 : EXEMPT"),
    (r"'W'(?=,| :)", "'B'"),
    (r"'B'(?=,|;)", "'W'"),
    (r"standing \|= CLEAR;", ";"),
    (r"SOONER\(\w[\w.]*\);", ";"),
    (r"if \((?=exempt\)|is_white\)|is_unknown\()", "if (!"),
)


class Place(NamedTuple):
    """One change of one line."""

    name: str
    start: int
    end: int
    new: str


def places(source: str) -> list[Place]:
    """Each change at each place of the deciding part, in its order."""
    first = source.index(FIRST)
    found = sorted(
        (match.start(), match.end(), match.expand(new))
        for pattern, new in CHANGES
        for match in re.finditer(pattern, source)
        if match.start() >= first and not _is_comment(source, match.start()) and not _is_macro(source, match.start())
    )
    return [Place(f"{FILE}:{start}:{new}", start, end, new) for start, end, new in found]


def _is_comment(source: str, at: int) -> bool:
    return source.rfind("/*", 0, at) > source.rfind("*/", 0, at)


def _is_macro(source: str, at: int) -> bool:
    return source.startswith("#", source.rfind("\n", 0, at) + 1)


def changed(source: str, place: Place) -> tuple[str, str]:
    """The line of the change, before and after, with the line above of which it is the body."""
    at = source.count("\n", 0, place.start)
    mutated = source[: place.start] + place.new + source[place.end :]
    first = at - 1 if _indent(source, at) > _indent(source, at - 1) else at
    before, after = (" ".join(line.strip() for line in text.split("\n")[first : at + 1]) for text in (source, mutated))
    return before, after


def _indent(source: str, at: int) -> int:
    line = source.split("\n")[at]
    return len(line) - len(line.lstrip())


def build(tree: Path) -> dict[str, int]:
    """Build all mutants into the core of the copy `tree`. Returns the number of each."""
    source = (tree / FILE).read_text()
    numbers = {place.name: number for number, place in enumerate(places(source), 1)}
    objects = tree / "build/copies"
    objects.mkdir(parents=True, exist_ok=True)
    names = re.findall(r"^[a-z]\w* (gate_\w+)\(", source, re.MULTILINE)
    files = []
    for number, place in enumerate(places(source), 1):
        mutated = source[: place.start] + place.new + source[place.end :]
        files.append(_written(objects / f"copy{number}.c", _renamed(names, number) + mutated))
    files.append(_written(objects / "dispatch.c", _dispatch((tree / HEADER).read_text(), len(numbers) + 1)))
    for file in files:
        subprocess.run(["cc", *CFLAGS, f"-I{tree / 'gate/native'}", "-c", file.name], cwd=objects, check=True)
    (tree / FILE).write_text(_renamed(DECIDING, 0) + source)
    every = [file.with_suffix(".o").name for file in files]
    subprocess.run(["cc", "-r", "-nostdlib", "-o", "copies.o", *every], cwd=objects, check=True)
    # Flags of both the compiler, which passes over an object file, and the linker.
    flags = f"-O1 -w {objects / 'copies.o'}"
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    subprocess.run(command, cwd=tree, env={**os.environ, "GATE_NATIVE_CFLAGS": flags}, check=True)
    return numbers


def _written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def _renamed(names: Sequence[str], number: int) -> str:
    return "".join(f"#define {name} {name}_m{number}\n" for name in names)


def _dispatch(header: str, copies: int) -> str:
    lines = ['#include "core.h"', "int gate_mutant;"]
    for name in DECIDING:
        (found,) = re.finditer(rf"^(\w+) {name}\(([^;]*)\);", header, re.MULTILINE)
        types = [
            re.sub(r"(?<=[ *])\w+$", "", one.strip()) if " " in one.strip() else one for one in found[2].split(",")
        ]
        takes = ", ".join(f"{each} a{at}" for at, each in enumerate(types))
        given = ", ".join(f"a{at}" for at in range(len(types)))
        every = ", ".join(f"{name}_m{number}" for number in range(copies))
        lines += [
            *(f"extern {found[1]} {name}_m{number}({takes});" for number in range(copies)),
            f"static {found[1]} (*const {name}_of[])({takes}) = {{{every}}};",
            f"{found[1]} {name}({takes}) {{ return {name}_of[gate_mutant]({given}); }}",
        ]
    return "\n".join(lines) + "\n"


class NativeMutating(Mutating):
    """Tries each in the tests of `TESTS`, those first that killed others."""

    def __init__(self, numbers: dict[str, int], results: Path) -> None:
        super().__init__([UNCHANGED, *numbers], results)
        self._numbers = {UNCHANGED: 0, **numbers}
        self._order: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._order = [item.nodeid for item in items]
        self.durations = dict.fromkeys(self._order, MOST_TEST_S)

    def function_of(self, name: str) -> str:
        return FILE

    def tests_of(self, name: str) -> list[str]:
        killers = self.killers_of(name)
        return [*killers, *(test for test in self._order if test not in killers)]

    def switch(self, name: str) -> None:
        from gate.native import core

        assert core is not None and core.__file__ is not None
        ctypes.c_int.in_dll(ctypes.CDLL(core.__file__), "gate_mutant").value = self._numbers[name]


def main() -> int:
    """Exit status 0 once all are tried."""
    results, tree = Path(sys.argv[1]).absolute(), Path.cwd()
    kept = tree / "mutants.json"
    if not kept.exists():
        kept.write_text(json.dumps(build(tree)))
    sys.path.insert(0, str(tree))
    os.environ["GATE_NATIVE"] = "1"
    return int(pytest.main([*OPTIONS, *TESTS], plugins=[NativeMutating(json.loads(kept.read_text()), results)]))


if __name__ == "__main__":
    raise SystemExit(main())
