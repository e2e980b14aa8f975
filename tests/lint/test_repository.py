"""What a clone must keep true about itself: one version, locks that any index can serve, a docstring on every file."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-wheel.lock", "requirements-quality.lock"]
PINNED = re.compile(r"^(?P<name>[a-z0-9.-]+)(\[[a-z,]+\])?==(?P<version>[^ ;]+)", re.MULTILINE)
BANNED_IN_NAMES = {"manager", "helper", "util", "utils", "misc", "data", "info", "common"}
# Fine as nouns (an operating system has processes), empty as what a function does.
BANNED_VERBS = {"process", "handle"}
# asyncio calls this one by name.
ASYNCIO_NAMES = {"data_received", "feed_data", "handle_error"}
SOURCES = sorted((REPOSITORY / "gate").rglob("*.py"))


def pins(lock: str) -> dict[str, str]:
    return {one["name"]: one["version"] for one in PINNED.finditer((REPOSITORY / lock).read_text())}


def test_the_changelog_opens_with_this_version() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == version


def test_the_security_page_is_of_this_version_and_linked() -> None:
    page = (REPOSITORY / "SECURITY.md").read_text()
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    minor = version.rpartition(".")[0]
    assert re.findall(r"^\| (\d+\.\d+) \| yes", page, re.MULTILINE) == [minor]
    assert "(SECURITY.md)" in (REPOSITORY / "README.md").read_text()
    # The one place that the owner fills in.
    assert len(re.findall(r"write to \*\*[^*]+\*\*", page)) == 1
    assert "wrong verdict" in page


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_all_with_hashes_and_names_no_index(lock: str) -> None:
    lines = (REPOSITORY / lock).read_text().splitlines()
    assert [line for line in lines if line.startswith(("-", "http")) or "://" in line] == []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        assert line.startswith("    --hash=sha256:") or following.startswith("    --hash=sha256:"), line


def test_the_dev_lock_contains_the_runtime_lock() -> None:
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(REPOSITORY)))
def test_every_file_says_what_it_is_and_avoids_empty_names(source: Path) -> None:
    tree = ast.parse(source.read_text())
    assert ast.get_docstring(tree), "no docstring"
    named = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    words = {word for name in {*named - ASYNCIO_NAMES, source.stem} for word in re.findall(r"[A-Z]?[a-z]+", name)}
    verbs = {name.lstrip("_").partition("_")[0] for name in named - ASYNCIO_NAMES}
    assert ({word.lower() for word in words} & BANNED_IN_NAMES) | (verbs & BANNED_VERBS) == set()
