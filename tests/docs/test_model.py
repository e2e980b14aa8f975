"""The page on the models names code that exists, steps that are in the models, and every wrong rule."""

from __future__ import annotations

import ast
import re

from tests.docs.pages import REPOSITORY, page_text
from tests.model.test_models import LARGE_WRONG, SMALL_WRONG, wrong

PAGE = page_text("docs/model.md")
ROW = re.compile(r"^\| (.+?) \| `(gate/[\w/.]+)` \| (.*?) ?\|$", re.MULTILINE)


def functions(path: str) -> set[str]:
    """The functions of a module, those of a class as `Class.name`."""
    found = set()
    for node in ast.parse((REPOSITORY / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{each.name}" for each in methods}
    return found


def test_the_code_of_every_step_exists() -> None:
    rows = ROW.findall(PAGE)
    assert len(rows) > 20
    for step, path, names in rows:
        assert (REPOSITORY / path).is_file(), step
        if path.endswith(".py"):
            assert set(re.findall(r"`([\w.]+)`", names)) - functions(path) == set(), step


def test_every_step_is_in_a_model() -> None:
    models = "\n".join(path.read_text() for path in (REPOSITORY / "models").glob("*.pml"))
    for step, _, _ in ROW.findall(PAGE):
        for name in re.findall(r"`(\w+)`", step):
            assert re.search(rf"\b{name}\b", models), name


def test_every_wrong_rule_is_listed() -> None:
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE))
    assert listed == {rule for _, rule, _ in wrong(SMALL_WRONG, LARGE_WRONG)}
