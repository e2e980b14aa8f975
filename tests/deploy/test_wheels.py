"""What `make wheel` makes: complete, the same twice, at work on x86-64 and, under qemu's user mode, on arm64."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.service import GateService
from tests.deploy.files import REPOSITORY

BUILD_S = 300
SOURCES_OF_THE_CORE = {".c", ".h", ".pyx", ".pxi"}
CORE = "gate/native/_core.abi3.so"
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
QEMU = "qemu-aarch64-static"
DEBIAN_PYTHON = "python3.11"
ON_ARM64 = """
import platform
from gate import native
from gate.replica import native_core
assert native_core.trusted_core() is native.core is not None, native_core.state()
print(platform.machine(), native.core.__file__)
"""
"""`trusted_core` asks the core and the rules in Python 512 questions over a file that it writes."""

pytestmark = pytest.mark.timeout(2 * BUILD_S)


def made(folder: Path, *machines: str) -> dict[str, Path]:
    """One wheel for each machine, or for these; the test is skipped where the compiler can't be installed."""
    command = [sys.executable, str(REPOSITORY / "scripts/make_wheels.py"), str(folder), *machines]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if "can't be installed" in done.stderr:
        pytest.skip(f"no compiler of requirements-wheel.lock here: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    return {one.stem.rpartition("manylinux2014_")[2]: one for one in folder.glob("gate_im-*-cp311-abi3-*.whl")}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs a clone")
    return made(tmp_path_factory.mktemp("wheels"))


def installed(folder: Path, wheel: Path, *options: str) -> Path:
    """What the lock pins, by its hashes, and the wheel, in a folder of their own."""
    target = folder / "packages"
    dependencies = ["--require-hashes", "--requirement", str(REPOSITORY / "requirements.lock")]
    to_there = ["install", "--no-deps", "--only-binary=:all:", "--target", str(target), *options]
    done = subprocess.run(
        [*PIP, *to_there, *dependencies], capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no download of the dependencies: {done.stderr.strip()[-300:]}")
    subprocess.run([*PIP, *to_there, "--no-index", str(wheel)], check=True, capture_output=True)
    return target


def test_they_hold_what_git_holds_and_the_core(wheels: dict[str, Path]) -> None:
    assert sorted(wheels) == ["aarch64", "x86_64"]
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "gate"], cwd=REPOSITORY, text=True
    )
    wanted = {name for name in listed.splitlines() if Path(name).suffix not in SOURCES_OF_THE_CORE}
    for wheel in wheels.values():
        there = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
        assert there == wanted | {CORE}


def test_the_same_commit_gives_the_same_bytes(wheels: dict[str, Path], tmp_path: Path) -> None:
    """The compiler and the steps are the same for each machine, so one is built again."""
    again = made(tmp_path, "x86_64")
    assert again.keys() == {"x86_64"}
    assert sha256(again["x86_64"]) == sha256(wheels["x86_64"])


def test_the_one_for_this_machine_serves_with_the_core(wheels: dict[str, Path], tmp_path: Path) -> None:
    machine = os.uname().machine
    if machine not in wheels:
        pytest.skip(f"no wheel for {machine}")
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    lock = ["install", "--require-hashes", "--requirement", str(REPOSITORY / "requirements.lock")]
    for what in (lock, ["install", "--no-deps", "--no-index", str(wheels[machine])]):
        done = subprocess.run([*PIP, "--python", str(python), *what], capture_output=True, text=True, check=False)
        if done.returncode != 0 and what is lock:
            pytest.skip(f"no download of the dependencies: {done.stderr.strip()[-300:]}")
        assert done.returncode == 0, done.stderr
    with GateService.start(tmp_path / "data", python=python) as service:
        service.wait_for_output("the compiled core")
        report = asked(environment / "bin" / "gate", "doctor", "--data", service.data)
        assert "in use for checks" in report, report
        assert service.resp_client().execute_command("GATE.CHECK", "ann", "bob") == 1


def test_the_other_one_decides_alike_under_an_emulator(wheels: dict[str, Path], tmp_path: Path) -> None:
    if shutil.which(QEMU) is None:
        pytest.skip(f"no {QEMU}: Debian's package qemu-user-static")
    root = arm64_python(tmp_path / "debian")
    platforms = [f"--platform=manylinux{which}_aarch64" for which in ("2014", "_2_17", "_2_28")]
    packages = installed(tmp_path, wheels["aarch64"], "--python-version=3.11", *platforms)
    command = [QEMU, "-L", str(root), "-E", f"PYTHONPATH={packages}", str(root / "usr/bin" / DEBIAN_PYTHON)]
    shown = asked(*command, "-P", "-c", ON_ARM64)
    assert shown == f"aarch64 {packages / CORE}\n"


def arm64_python(folder: Path) -> Path:
    """Debian's Python for arm64 and its libraries, unpacked and not installed: apt gets lists and a state of its own there."""
    root = folder / "root"
    for name in ("lists/partial", "cache/archives/partial", "root"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",  # the folder is not for another user to write to
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    try:
        asked(*apt, "update")
        asked(*apt, "install", "--yes", "--download-only", "--no-install-recommends", DEBIAN_PYTHON)
        for package in sorted((folder / "cache/archives").glob("*.deb")):
            asked("dpkg-deb", "--extract", package, root)
    except (OSError, subprocess.SubprocessError) as fault:
        pytest.skip(f"no Python for arm64 from Debian: {fault}")
    return root


def asked(*command: str | Path) -> str:
    done: Sequence[str] = [str(word) for word in command]
    return subprocess.run(done, check=True, stdout=subprocess.PIPE, text=True, timeout=BUILD_S).stdout


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
