"""libgate, built once for a session."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.libgate import REPOSITORY, Library


@pytest.fixture(scope="session")
def libgate_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where libgate.so, libgate.a and gate.h are; a test is skipped with the build's own line if it can't be built."""
    out = tmp_path_factory.mktemp("libgate")
    made = subprocess.run([REPOSITORY / "scripts" / "make-libgate", out], capture_output=True, text=True)
    if "apt-get install" in made.stderr:
        pytest.skip(made.stderr.strip())
    assert made.returncode == 0 and made.stderr == "", made.stderr
    return out


@pytest.fixture
def libgate(libgate_dir: Path) -> Iterator[Library]:
    with Library(libgate_dir / "libgate.so") as library:
        yield library
