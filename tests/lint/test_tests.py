"""What the tests keep true of themselves: they read no private name of Gate, and name a seed where they draw."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SOURCES = sorted(TESTS.rglob("*.py"))
MOST_NAME_CHARS = 70
DOCUMENTED = {"_replace", "_asdict", "_fields", "_exit"}
"""Of named tuples and `os`, whose underscore does not say that they are private."""
WITHOUT_ANOTHER_WAY = {"_labelnames"}
"""prometheus_client has the labels of a metric without samples nowhere else."""


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_reads(source: str) -> Iterator[str]:
    """Private names of other files that are read or imported. What a file defines itself it may read."""
    own = {name for pair in re.findall(r"(?:def|class) (_\w+)|(?:self|cls)\.(_\w+)", source) for name in pair}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and private(node.attr):
            if node.attr not in own | DOCUMENTED | WITHOUT_ANOTHER_WAY:
                yield f"line {node.lineno}: {node.attr}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gate"):
            yield from (f"line {node.lineno}: {one.name}" for one in node.names if private(one.name))


def fixed_seeds(source: str) -> Iterator[str]:
    """`Random(7)`, which no environment varies."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    for call in calls:
        if ast.unparse(call.func) in ("Random", "random.Random") and isinstance(call.args[0], ast.Constant):
            yield f"line {call.lineno}: {ast.unparse(call)}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(TESTS)))
def test_a_test_reads_no_private_name_and_has_no_fixed_seed(source: Path) -> None:
    text = source.read_text()
    assert list(private_reads(text)) == [], "add a read-only property, or test what it does"
    assert list(fixed_seeds(text)) == [], "take it from harness.seeds"


def test_private_reads_and_fixed_seeds_are_found() -> None:
    source = "from gate.core import _a\nx._b\nself._c\ny._c\nRandom(7)\nrandom.Random(SEED)\nt._replace(a=1)\n"
    assert list(private_reads(source)) == ["line 1: _a", "line 2: _b"]
    assert list(fixed_seeds(source)) == ["line 5: Random(7)"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(TESTS)))
def test_the_name_of_a_test_is_short(source: Path) -> None:
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [node.name for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, defined)]
    assert [name for name in names if len(name) > MOST_NAME_CHARS] == []
