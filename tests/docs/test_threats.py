"""Each threat of the threat model names tests that try it, and all of these exist."""

from __future__ import annotations

import ast
import re

from tests.docs.pages import REPOSITORY, page_text

ROW = re.compile(r"^\| (?P<threat>[A-Z][^|]+) \| (?P<guard>[^|]+) \| (?P<tests>`tests/.*`) \|$", re.MULTILINE)
LEAST_THREATS = 30


def test_every_threat_is_tried_by_tests_that_exist() -> None:
    _, _, table = page_text("docs/threat-model.md").partition("## Threats, guards and tests")
    rows = list(ROW.finditer(table))
    lines = [
        line for line in table.splitlines() if line.startswith("| ") and not line.startswith(("| threat", "| ---"))
    ]
    assert len(rows) == len(lines) >= LEAST_THREATS, "a row without a test"
    named = {name for row in rows for name in re.findall(r"`(tests/[^`]+)`", row["tests"])}
    missing = set()
    for name in named:
        file, _, function = name.partition("::")
        path = REPOSITORY / file
        tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
        found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        if function not in found:
            missing.add(name)
    assert missing == set()
