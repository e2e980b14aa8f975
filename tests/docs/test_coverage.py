"""CONTRIBUTING names the floors of coverage that `scripts/coverage-floors` holds."""

from __future__ import annotations

import re

from tests.docs.pages import REPOSITORY


def test_contributing_names_the_floors() -> None:
    script = (REPOSITORY / "scripts/coverage-floors").read_text()
    floors = dict(re.findall(r"\[(\w+)\]=(\d+)", script))
    assert floors.keys() == {"core", "replica", "wire", "store"}
    page = " ".join((REPOSITORY / "CONTRIBUTING.md").read_text().split())
    for package, floor in floors.items():
        assert f"`{package}` {floor} %" in page, package
        assert int(floor) >= 95
    (everything,) = re.findall(r"^ALL=(\d+)$", script, re.MULTILINE)
    assert f"all of `gate` {everything} %" in page
