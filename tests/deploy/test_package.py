"""What an installer gets is complete: a wheel and a source distribution, installed into a new environment."""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from gate import __version__
from tests.deploy.files import REPOSITORY

BUILD_CONTEXT = (
    "pyproject.toml",
    "setup.py",
    "requirements.in",
    "README.md",
    "LICENSE",
    "MANIFEST.in",
    "SECURITY.md",
    "CHANGELOG.md",
)
LEFT_OUT = {"__pycache__", "*.so"}
SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, because a build leaves files next to the sources."""
    source = tmp_path_factory.mktemp("build") / "source"
    shutil.copytree(REPOSITORY / "gate", source / "gate", ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in BUILD_CONTEXT:
        shutil.copy(REPOSITORY / name, source / name)
    return source


@pytest.fixture(scope="module")
def sdist(source: Path) -> Path:
    subprocess.run([sys.executable, "-c", SDIST, source.parent], cwd=source, check=True, capture_output=True)
    [made] = source.parent.glob("*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """Made from the source distribution, so that what is missing there is missing here too."""
    build = [
        *PIP,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(sdist.parent),
        str(sdist),
    ]
    subprocess.run(build, check=True, capture_output=True)
    [made] = sdist.parent.glob("*.whl")
    return made


def test_every_file_of_the_program_comes_along(source: Path, sdist: Path, wheel: Path) -> None:
    wanted = {str(file.relative_to(source)) for file in (source / "gate").rglob("*") if file.is_file()}
    wanted = {name for name in wanted if "__pycache__" not in name}
    assert "gate/py.typed" in wanted
    compiled = {name for name in wanted if name.endswith((".c", ".h", ".pyx", ".pxi"))}
    assert wanted & set(zipfile.ZipFile(wheel).namelist()) == wanted - compiled
    with tarfile.open(sdist) as packed:
        there = {name.partition("/")[2] for name in packed.getnames()}
    assert (wanted | {"requirements.in", "LICENSE", "SECURITY.md", "CHANGELOG.md"}) - there == set()


def test_the_metadata_is_complete_and_every_dependency_bounded(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        [name] = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
        fields = Parser().parsestr(packed.read(name).decode())
    assert (fields["Name"], fields["Version"], fields["License-Expression"]) == ("gate-im", __version__, "Apache-2.0")
    assert fields["Summary"] and fields["Keywords"] and fields["Requires-Python"] and fields.get_payload()
    assert "Typing :: Typed" in (fields.get_all("Classifier") or [])
    needed = [Requirement(line) for line in fields.get_all("Requires-Dist") or []]
    assert {"hiredis", "itsdangerous"} <= {one.name for one in needed}
    for one in needed:
        operators = {bound.operator for bound in one.specifier}
        assert ">=" in operators and ("<" in operators or one.name == "setuptools"), one


def test_the_wheel_works_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    [packages] = environment.glob("lib/python*/site-packages")
    # The dependencies of this environment, without its own link to the repository: a .pth there is not read from here.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    install = [*PIP, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)

    def ran(*command: str | Path) -> str:
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60).stdout

    assert ran(environment / "bin" / "gate", "--version") == f"gate {__version__}\n"
    assert "--redis" in ran(environment / "bin" / "gate", "serve", "--help")
    where = "import gate, gate.service.supervisor; print(gate.__file__, gate.Replica)"
    assert ran(python, "-c", where).startswith(str(packages))
