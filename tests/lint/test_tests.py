"""What the tests keep true of themselves: they read no private name of Gate, and name a seed where they draw."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
SOURCES = sorted(TESTS.rglob("*.py"))
MOST_NAME_CHARS = 70
DOCUMENTED = {"_replace", "_asdict", "_fields", "_exit"}
"""Of named tuples and `os`, whose underscore does not say that they are private."""
WITHOUT_ANOTHER_WAY = {"_labelnames"}
"""prometheus_client has the labels of a metric without samples nowhere else."""


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_reads(source: str, tree: ast.Module) -> Iterator[str]:
    """Private names of other files that are read or imported. What a file defines itself it may read."""
    own = {name for pair in re.findall(r"(?:def|class) (_\w+)|(?:self|cls)\.(_\w+)", source) for name in pair}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            if node.attr not in own | DOCUMENTED | WITHOUT_ANOTHER_WAY:
                yield f"line {node.lineno}: {node.attr} is private: add a read-only property, or test what it does"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gate"):
            yield from (f"line {node.lineno}: {one.name} is private" for one in node.names if private(one.name))


def fixed_seeds(tree: ast.Module) -> Iterator[str]:
    """`Random(7)`, which no environment varies."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        if ast.unparse(call.func) in ("Random", "random.Random") and isinstance(call.args[0], ast.Constant):
            yield f"line {call.lineno}: {ast.unparse(call)}: take the seed from harness.seeds"


def long_names(tree: ast.Module) -> Iterator[str]:
    """A test's name is a sentence that fits a line of the report."""
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.walk(tree):
        if isinstance(node, defined) and len(node.name) > MOST_NAME_CHARS:
            yield f"line {node.lineno}: {node.name} has more than {MOST_NAME_CHARS} characters"


def broken_rules(source: str) -> list[str]:
    tree = ast.parse(source)
    return [*private_reads(source, tree), *fixed_seeds(tree), *long_names(tree)]


def test_tests_read_no_private_name_fix_no_seed_and_have_short_names() -> None:
    found = [f"{path.relative_to(TESTS)}: {one}" for path in SOURCES for one in broken_rules(path.read_text())]
    assert found == []


def test_each_of_these_rules_can_be_broken() -> None:
    source = "from gate.core import _a\nx._b\nself._c\ny._c\nRandom(7)\nrandom.Random(SEED)\nt._replace(a=1)\n"
    long = f"def {'a' * 71}(): ...\nclass {'b' * 70}: ...\n"
    found = [one.partition(" ")[2].partition(" ")[::2] for one in broken_rules(source + long)]
    assert [(line, rest.split(":")[0]) for line, rest in found] == [
        ("1:", "_a is private"),
        ("2:", "_b is private"),
        ("5:", "Random(7)"),
        ("8:", f"{'a' * 71} has more than 70 characters"),
    ]
