"""Every function that the walks of `docs/architecture.md` and CONTRIBUTING name exists, and every file of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.docs.pages import REPOSITORY, page_text

PAGES = ("docs/architecture.md", "CONTRIBUTING.md")
NAMED = re.compile(r"`(?:(?P<file>gate/[\w/.]+): )?(?P<function>[A-Za-z_][\w.]*)`")
"""`file: function`, or a function of the file that the same row named last."""
FILES = re.compile(r"`(gate/[\w/]+\.(?:py|pxi|pyx|c|h|lua|md))\b")


@cache
def functions(path: str) -> frozenset[str]:
    """The functions and methods of a module, the latter as `Class.name`; imported names do not count."""
    found = set()
    for node in ast.parse((REPOSITORY / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{each.name}" for each in methods}
    return frozenset(found)


def hops(text: str) -> Iterator[tuple[str, str]]:
    """Each file and function of the first column of the tables, and each `file: function` anywhere else."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("| ") else []
        is_walk = bool(cells) and any("`gate/" in cell and ".py: " in cell for cell in cells[:2])
        file = ""
        for found in NAMED.finditer(line if not is_walk else cells[0] if "`gate/" in cells[0] else cells[1]):
            if found["file"]:
                file = found["file"]
                yield file, found["function"]
            elif is_walk and file:
                yield file, found["function"]
        if is_walk:
            for found in re.finditer(r"`(gate/[\w/.]+): ([\w.]+)`", line):
                yield found[1], found[2]


@pytest.mark.parametrize("page", PAGES)
def test_every_hop_exists(page: str) -> None:
    missing = sorted({f"{file}: {name}" for file, name in hops(page_text(page)) if name not in functions(file)})
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_every_file_exists(page: str) -> None:
    assert [path for path in FILES.findall(page_text(page)) if not (REPOSITORY / path).is_file()] == []


def test_the_walks_name_their_hops() -> None:
    walks = page_text("docs/architecture.md").split("## Four walks through the code")[1].split("\n## ")[0]
    sections = {section.splitlines()[0]: set(hops(section)) for section in walks.split("\n### ")[1:]}
    assert list(sections) == ["A check over RESP", "A write over HTTP", "A connect", "An event"]
    assert all(len(named) >= 10 for named in sections.values()), sections
