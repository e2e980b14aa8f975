"""Sizes that fail the build: a file or function that outgrows them has a second reason to change, so split it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from scripts.sizes import LATER

REPOSITORY = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
SOURCES = sorted(
    path for folder in ("gate", "harness", "tests", "loadtests", "demo") for path in (REPOSITORY / folder).rglob("*.py")
)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def too_large(text: str) -> Iterator[str]:
    """The file, and each function past its limit. Many functions share a name, so each is measured by its place."""
    if (lines := len(text.splitlines())) > MAX_FILE_LINES:
        yield f"{lines} lines"
    for one in functions(ast.parse(text)):
        if (lines := (one.end_lineno or 0) - one.lineno + 1) > MAX_FUNCTION_LINES:
            yield f"line {one.lineno}: {one.name} has {lines} lines"


def test_no_file_and_no_function_is_too_long() -> None:
    found = [f"{path.relative_to(REPOSITORY)}: {one}" for path in SOURCES for one in too_large(path.read_text())]
    assert found == []


def test_a_function_is_measured_though_a_shorter_one_has_its_name() -> None:
    long = "    def run(self):\n" + "        x = 1\n" * MAX_FUNCTION_LINES
    source = f"class A:\n{long}class B:\n    def run(self): ...\n"
    assert list(too_large(source)) == [f"line 2: run has {MAX_FUNCTION_LINES + 1} lines"]
    assert list(too_large("x = 1\n" * MAX_FILE_LINES)) == []
    assert list(too_large("x = 1\n" * (MAX_FILE_LINES + 1))) == [f"{MAX_FILE_LINES + 1} lines"]


def test_modules_of_later_versions_exist_and_are_named_once() -> None:
    names = [name for _, _, modules in LATER for name in modules.split()]
    places = [REPOSITORY / "gate" / name for name in names]
    missing = [
        name
        for name, place in zip(names, places, strict=True)
        if not (place.is_dir() or place.with_suffix(".py").is_file())
    ]
    assert missing == [], "in LATER of scripts/sizes.py: name the file in which each is now, or remove it"
    assert sorted(set(names)) == sorted(names)
    versions = re.findall(r"^## \[(.+?)\]", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert {version for version, _, _ in LATER} <= set(versions) - {"0.1.0"}
