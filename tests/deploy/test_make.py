"""`make test` says what it will install before anything is installed, and nothing where all is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.deploy.files import REPOSITORY

FROM_THE_SYSTEM = ("bash", "env", "dirname", "basename", "grep", "cmp", "printf")
TOOLS = (
    "redis-server",
    "redis-cli",
    "redis-benchmark",
    "faketime",
    "node",
    "npm",
    "chromium",
    "qemu-aarch64-static",
    "spin",
    "nginx",
    "haproxy",
    "prometheus",
    "promtool",
    "prometheus-alertmanager",
    "gcc",
)

CLIENTS = {
    "python": "tests/clients/python/clients.lock",
    "node": "tests/clients/node/package-lock.json",
    "headers": "examples/in-process/node/package-lock.json",
    "package": "client/package-lock.json",
    "debian": "tests/clients/debian.txt",
}


def machine(folder: Path, *tools: str) -> Path:
    """A directory with what a script may call: the shell's own tools, and those named, which do nothing."""
    folder.mkdir()
    for tool in FROM_THE_SYSTEM:
        found = shutil.which(tool)
        assert found is not None, tool
        (folder / tool).symlink_to(found)
    for tool in tools:
        (folder / tool).symlink_to("/bin/true")
    return folder


OF_NPM = {"node": "tests/conformance/node", "axe": "tests/browser/node"}
"""Where npm installs what `install-sdks` lists under these names."""


def clone(folder: Path) -> Path:
    """The files that the announcement reads, before anything was installed."""
    shutil.copytree(REPOSITORY / "scripts", folder / "scripts")
    shutil.copytree(REPOSITORY / "tests/conformance/python", folder / "tests/conformance/python")
    of_npm = [f"{one}/package-lock.json" for one in OF_NPM.values()]
    for name in ("requirements-dev.lock", *of_npm, *CLIENTS.values()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


def announced(clone: Path, machine: Path) -> str:
    command = [clone / "scripts/announce-tests"]
    environment = {"PATH": str(machine)}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_a_new_machine_sees_the_names_of_all_packages(tmp_path: Path) -> None:
    new = clone(tmp_path / "clone")
    python, debian, sdks, clients = announced(new, machine(tmp_path / "bin")).splitlines()
    assert re.search(r"installs \d\d+ Python packages in \.venv", python)
    assert debian.endswith(
        "as root: redis-server redis-tools faketime nodejs npm chromium qemu-user-static spin gcc libc6-dev nginx haproxy"
        " prometheus prometheus-alertmanager"
    )
    assert {"rongcloud-2.0.1", "node"} <= set(sdks.split())
    assert all(
        one in clients for one in ("PyPI's", "npm's", "npm's headers of Node-API", "Debian's, as root (", "php-redis")
    )
    assert not (new / ".venv").exists(), "an announcement installs nothing"


def test_what_is_there_is_left_out(tmp_path: Path) -> None:
    new = clone(tmp_path / "clone")
    sdks = announced(new, machine(tmp_path / "bin", *TOOLS)).splitlines()[-2].rpartition(": ")[2].split()
    for name in sdks:
        lock, stamp = f"tests/conformance/python/{name}.lock", new / f".venv/sdks/{name}/installed.lock"
        if folder := OF_NPM.get(name):
            lock, stamp = f"{folder}/package-lock.json", new / folder / "node_modules/installed.lock"
        stamp.parent.mkdir(parents=True)
        shutil.copy(new / lock, stamp)
    (new / ".venv/clients").mkdir()
    for source, lock in CLIENTS.items():
        shutil.copy(new / lock, new / f".venv/clients/{source}.installed")
    (new / ".venv/.dev-stamp").touch()
    assert announced(new, tmp_path / "bin") == ""


def test_it_comes_before_the_first_installation() -> None:
    # Not what the `make test` that runs this hands on: it would announce the directory, and add its ARGS.
    environment = {"PATH": os.environ["PATH"]}
    command = ["make", "-n", "test"]
    planned = subprocess.run(
        command, cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert planned.startswith("scripts/announce-tests\n")
    assert planned.index("announce-tests") < planned.index("install-test-tools")
