"""Sizes that fail the build: a file or function that outgrows them has a second reason to change, so split it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
SOURCES = sorted((REPOSITORY / "gate").rglob("*.py")) + sorted((REPOSITORY / "tests" / "harness").glob("[!t]*.py"))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(REPOSITORY)))
def test_no_file_and_no_function_is_too_long(source: Path) -> None:
    text = source.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    lengths = {one.name: (one.end_lineno or 0) - one.lineno + 1 for one in functions(ast.parse(text))}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}
