"""What an image installs is complete: every file of the program that is no Python comes along."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.deploy.files import REPOSITORY

BUILD_CONTEXT = ("pyproject.toml", "requirements.in", "README.md", "LICENSE")
LEFT_OUT = {"__pycache__"}


def test_the_installed_program_is_whole(tmp_path: Path) -> None:
    # A copy, because a build leaves its droppings beside the sources.
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY / "gate", source / "gate", ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in BUILD_CONTEXT:
        shutil.copy(REPOSITORY / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    wanted = {str(file.relative_to(source)) for file in (source / "gate").rglob("*") if file.is_file()}
    assert wanted - set(zipfile.ZipFile(wheel).namelist()) == set()
