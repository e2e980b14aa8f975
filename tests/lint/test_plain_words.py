"""Plain technical English: no word of the list, short names of tests, short lines of Markdown (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts.plain_words import found, prose

REPOSITORY = Path(__file__).parents[2]
MAX_TEST_NAME = 70
MAX_MARKDOWN_LINE = 100


def test_no_word_of_the_list_is_used() -> None:
    assert found() == []


@pytest.mark.parametrize("path", sorted((REPOSITORY / "tests").rglob("test_*.py")), ids=lambda path: path.name)
def test_names_of_tests_are_short(path: Path) -> None:
    functions = (
        one for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert [one.name for one in functions if one.name.startswith("test_") and len(one.name) > MAX_TEST_NAME] == []


def test_lines_of_markdown_are_short() -> None:
    """Tables, code and links can't be broken."""
    long = []
    for path in prose("*.md"):
        in_code = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            start = line.lstrip()
            in_code ^= start.startswith(("```", "~~~"))
            may_be_long = (
                in_code or start.startswith(("|", "```", "~~~")) or "](" in line or " " not in start.strip("-*> ")
            )
            if len(line) > MAX_MARKDOWN_LINE and not may_be_long:
                long.append(f"{path.relative_to(REPOSITORY)}:{number}: {len(line)}")
    assert long == []
