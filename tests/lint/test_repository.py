"""What a clone must keep true about itself: one version, locks that any index can serve, a docstring on every file."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LOCKS = [f"requirements{name}.lock" for name in ("", "-dev", "-otel", "-wheel", "-quality")]
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


def empty_names(source: str, stem: str) -> Iterator[str]:
    """A missing docstring of the file, and names that say nothing."""
    tree = ast.parse(source)
    if not ast.get_docstring(tree):
        yield "no docstring"
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for name in (stem, *(node.name for node in ast.walk(tree) if isinstance(node, defined))):
        words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+", name)}
        verb = name.lstrip("_").partition("_")[0] if name != stem else ""
        if name not in ASYNCIO_NAMES and (words & BANNED_IN_NAMES or verb in BANNED_VERBS):
            yield name


def test_every_file_says_what_it_is_and_avoids_empty_names() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}: {one}" for path in SOURCES for one in empty_names(path.read_text(), path.stem)
    ]
    assert found == []


def test_empty_names_are_found() -> None:
    source = "def handle_it(): ...\nclass LeaseManager: ...\nasync def data_received(): ...\nclass Process: ...\n"
    assert list(empty_names(source, "utils")) == ["no docstring", "utils", "handle_it", "LeaseManager"]
