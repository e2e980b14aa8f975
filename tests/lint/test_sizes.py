"""Sizes that fail the build: a file or function that outgrows them has a second reason to change, so split it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
SOURCES = sorted(
    path for folder in ("gate", "harness", "tests", "demo") for path in (REPOSITORY / folder).rglob("*.py")
)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def too_long(tree: ast.Module) -> list[tuple[str, int, int]]:
    """Name, line and length of each function past the limit. Many share a name, so each is measured by its place."""
    lengths = [(one.name, one.lineno, (one.end_lineno or 0) - one.lineno + 1) for one in functions(tree)]
    return [one for one in lengths if one[2] > MAX_FUNCTION_LINES]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(REPOSITORY)))
def test_no_file_and_no_function_is_too_long(source: Path) -> None:
    text = source.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    assert too_long(ast.parse(text)) == []


def test_a_function_is_measured_though_a_shorter_one_has_its_name() -> None:
    long = "    def run(self):\n" + "        x = 1\n" * MAX_FUNCTION_LINES
    source = f"class A:\n{long}class B:\n    def run(self): ...\n"
    assert too_long(ast.parse(source)) == [("run", 2, MAX_FUNCTION_LINES + 1)]
