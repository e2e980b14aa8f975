"""The walks of `docs/architecture.md` and CONTRIBUTING name what exists, in the order in which a real call passes it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from scripts.walks import WALKS, traced
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


def tables(section: str) -> list[list[tuple[str, str]]]:
    """The hops of each table of a section: those of its first column, in order."""
    text = page_text("docs/architecture.md").split(f"\n### {section}\n")[1].split("\n## ")[0].split("\n### ")[0]
    found = []
    for table in text.split("\n| hop | what it does |\n")[1:]:
        rows = [line.split(" | ")[0] + " | |" for line in table.split("\n\n")[0].splitlines()]
        found.append(list(dict.fromkeys(hops("\n".join(rows)))))
    return found


@pytest.fixture(scope="module")
def real_calls() -> dict[str, list[str]]:
    """The functions that each walk passes, in order, as Python answers."""
    return {walk.name: list(one.hops) for walk, one in zip(WALKS, traced(WALKS, core=False), strict=True)}


MAY_COME_SOONER = ("gate/store/acks.py", "Acknowledger._hear")
"""A node may announce a write before its writer has the reply of Redis."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("section", "number", "walk"),
    [
        ("A check over RESP", 0, "check"),
        ("A write over HTTP", 0, "write"),
        ("A write over HTTP", 1, "write"),
        ("A write over HTTP", 2, "write"),
        ("A connect", 0, "connect"),
        ("A connect", 1, "websocket"),
    ],
)
def test_hops_come_in_the_order_of_a_real_call(
    section: str, number: int, walk: str, real_calls: dict[str, list[str]]
) -> None:
    passed = real_calls[walk]
    named = [f"{file}: {name}" for file, name in tables(section)[number] if (file, name) != MAY_COME_SOONER]
    met = [hop for hop in named if hop in passed]
    # A hop that is not met is one of a less usual way: a bar, a limit, a rule that the cache does not settle.
    assert len(met) >= max(4, len(named) * 3 // 4), set(named) - set(met)
    assert met == sorted(met, key=passed.index)
