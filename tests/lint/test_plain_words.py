"""Plain technical English: words that the style leaves out stand nowhere, test names are short, and so are lines of Markdown.

CONTRIBUTING.md says what to write in their place. An older page or a contract that must name one of them is in `ALLOWED`.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
WORDS = ("told", "tells", "whoever", "nobody", "anew", "beside")
PHRASES = ("put out", "lies in", "what was asked", "said so", "is none of")
FOUND = re.compile(
    rf"(?<![A-Za-z])(?:{'|'.join(WORDS)})(?![A-Za-z])|\b(?:{'|'.join(one.replace(' ', chr(92) + 's+') for one in PHRASES)})\b"
    # Python's own `is None` has another case.
    r"|\bis\s+none\b",
    re.IGNORECASE,
)
IS_NONE = re.compile(r"\bis\s+None\b")
ALLOWED = {"tests/lint/test_plain_words.py", "scripts/walks.py"}
"""The list itself."""
NOT_PROSE = (".json", ".lock", ".svg", ".png", ".csv", ".gz", ".ico")
OTHERS = ("loadtests/results/", "tests/conformance/node/", "tests/data/", "demo/data/")
MAX_TEST_NAME = 70
MAX_MARKDOWN_LINE = 100


def texts() -> list[tuple[str, str]]:
    """Every file of the project that people read, with its text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name and name not in ALLOWED]
    kept = [name for name in names if not name.endswith(NOT_PROSE) and not name.startswith(OTHERS)]
    found = []
    for name in kept:
        path = REPOSITORY / name
        if path.is_file():
            found.append((name, path.read_bytes().decode(errors="replace")))
    return found


def test_no_word_of_the_list_is_used() -> None:
    used = [
        f"{name}:{text.count(chr(10), 0, found.start()) + 1}: {found[0]}"
        for name, text in texts()
        for found in FOUND.finditer(IS_NONE.sub("", text))
    ]
    assert used == []


@pytest.mark.parametrize("path", sorted((REPOSITORY / "tests").rglob("test_*.py")), ids=lambda path: path.name)
def test_names_of_tests_are_short(path: Path) -> None:
    names = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [name for name in names if name.startswith("test_") and len(name) > MAX_TEST_NAME] == []


def test_lines_of_markdown_are_short() -> None:
    """Tables, code, and lines that are one link can't be broken."""
    long = []
    for name, text in texts():
        if not name.endswith(".md"):
            continue
        in_code = False
        for number, line in enumerate(text.splitlines(), 1):
            in_code ^= line.lstrip().startswith(("```", "~~~"))
            is_bound = in_code or line.lstrip().startswith(("|", "```", "~~~")) or " " not in line.strip(" -*>")
            if len(line) > MAX_MARKDOWN_LINE and not is_bound and "](" not in line:
                long.append(f"{name}:{number}: {len(line)}")
    assert long == []
