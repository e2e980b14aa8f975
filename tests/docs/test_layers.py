"""The table of layers in `docs/architecture.md` names what each package imports."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import REPOSITORY, page_text

IMPORTED = re.compile(r"^\s*(?:from|import|cimport) gate\.([a-z_]+)", re.MULTILINE)


def rows() -> dict[str, set[str]]:
    """Each package, and those that its row says it imports."""
    table = page_text("docs/architecture.md").split("\n## Layers\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `([a-z]+)` \|.*\| ([^|]*) ?\|$", table, re.MULTILINE)
    return {package: set(re.findall(r"`([a-z]+)`", imports)) for package, imports in found}


def imports_of(package: str) -> Iterator[str]:
    for path in (REPOSITORY / "gate" / package).rglob("*.py*"):
        if path.suffix in (".py", ".pyx"):
            yield from IMPORTED.findall(path.read_text())


def test_every_package_has_its_row() -> None:
    packages = {path.parent.name for path in (REPOSITORY / "gate").glob("*/__init__.py")}
    assert packages - rows().keys() == {"cli", "service"}


@pytest.mark.parametrize("package", rows())
def test_a_row_names_what_the_package_imports(package: str) -> None:
    assert rows()[package] == set(imports_of(package)) & (rows().keys() - {package})
