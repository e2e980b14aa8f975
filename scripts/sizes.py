"""How large the code is, and how much of it is comment, test and interface. `scripts/walks.py` prints these figures."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.plain_words import found

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Figure:
    """One figure, and what it must be."""

    name: str
    value: float
    bound: str


def measured() -> list[Figure]:
    """All figures of the working tree."""
    code, tests = sources("gate"), (*sources("tests"), *sources("harness"))
    lines = sum(len(text.splitlines()) for text in code)
    lines_of_tests = sum(len(text.splitlines()) for text in tests)
    filled = sum(bool(line.strip()) for text in code for line in text.splitlines())
    return [
        Figure("lines of Python in gate/", lines, "≤ 28,500 for what 0.1.0 did"),
        Figure("files of Python in gate/", len(code), "≤ 225 for what 0.1.0 did"),
        Figure("Protocols in gate/", sum(protocols(text) for text in code), "≤ 15"),
        Figure("comments a line of gate/", round(sum(comments(text) for text in code) / filled, 3), "≥ 0.05"),
        Figure("lines of tests/ and harness/ a line of gate/", round(lines_of_tests / lines, 2), "≥ 1.1"),
        Figure("lines with a word that is ruled out", len(found()), "0"),
    ]


def sources(folder: str) -> Sequence[str]:
    """The text of each Python file."""
    return [path.read_text() for path in sorted((ROOT / folder).rglob("*.py"))]


def protocols(text: str) -> int:
    """Classes whose base is typing's `Protocol`; that of asyncio is the base of a connection."""
    classes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef))
    return sum(not {"Protocol", "typing.Protocol"}.isdisjoint(bases(node)) for node in classes)


def bases(node: ast.ClassDef) -> Iterator[str]:
    """The bases as they are written, without their type parameters."""
    for base in node.bases:
        plain = base.value if isinstance(base, ast.Subscript) else base
        yield ast.unparse(plain)


def comments(text: str) -> int:
    """Comment tokens: a docstring does not count, and each line of a longer comment is one."""
    return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(text).readline))
