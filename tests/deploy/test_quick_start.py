"""From `git clone` to a verdict that changed, by the README's blocks alone, in at most a minute without downloads.

The clone is of what is committed here. Wheels are downloaded before the clock starts; then `make serve` sets up `.venv`
without an index. The blocks are run as they stand; only the two ports of the service are free ones.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.ports import LOOPBACK, free_port
from harness.processes import family, kill_each
from harness.service import READY_LINE
from harness.waiting import wait_until
from tests.docs.consoles import SHOWN_HTTP, SHOWN_RESP, blocks, settled, with_ports
from tests.docs.pages import REPOSITORY

MOST_S = 60.0
DOWNLOAD_S = 240
STOP_S = 30.0
MARK = "--- next block ---"
TOOLS = ("git", "make", "bash", "curl", "redis-cli")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that `make serve` installs, as files."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    command += ["--require-hashes", "--requirement", str(REPOSITORY / "requirements.lock")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"no download of the wheels within {DOWNLOAD_S} s")
    if done.returncode:
        pytest.skip(f"no download of the wheels: {done.stderr.strip()[-300:]}")
    return folder


@pytest.mark.timeout(DOWNLOAD_S + 240)
def test_the_readme_leads_from_a_clone_to_a_changed_verdict(wheels: Path, tmp_path: Path) -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or not (REPOSITORY / ".git").exists():
        pytest.skip(f"needs a clone, and {', '.join(missing) or 'git'}")
    clone = tmp_path / "gate"
    ports = {SHOWN_HTTP: str(free_port()), SHOWN_RESP: str(free_port())}
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GATE_", "PIP_", "PYTEST", "MAKE", "MFLAGS"))  # `make test` hands its own options on
    }
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PYTHON": sys.executable}
    environment["ARGS"] = f"--http {LOOPBACK}:{ports[SHOWN_HTTP]} --resp {LOOPBACK}:{ports[SHOWN_RESP]}"
    began = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True, env=environment)
    page = (clone / "README.md").read_text()
    serve, change, *others = blocks(page.split("\n## Quick start\n")[1].split("\n## ")[0])
    assert serve.command == "make serve\n"
    with Served(clone, serve.command, environment) as served:
        served.wait_ready()
        assert settled(paste(change.command, clone, ports)) == settled(change.shown)
        took_s = time.monotonic() - began
        verdicts = change.shown.splitlines()
        assert (verdicts[0], verdicts[-1]) == ("allowed", "blacklisted")
        one_shell = "".join(f"{block.command}echo\necho {MARK}\n" for block in others)
        printed = paste(one_shell, clone, ports).split(f"\n{MARK}\n")
        assert [settled(output) for output in printed[:-1]] == [settled(block.shown) for block in others]
        served.stop_with_control_c()
    print(f"from git clone to a verdict that changed: {took_s:.1f} s, downloads aside")
    assert took_s <= MOST_S


def paste(commands: str, clone: Path, ports: Mapping[str, str]) -> str:
    """What the second terminal shows."""
    script = f'redis-cli() {{ command redis-cli --no-raw "$@"; }}\n{with_ports(commands, dict(ports))}'
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATE_")}
    command = ["bash", "-c", script]
    ended = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return ended.stdout + ended.stderr


class Served:
    """The first terminal: `make serve`, until Ctrl-C."""

    def __init__(self, clone: Path, command: str, environment: Mapping[str, str]) -> None:
        self._output = clone.with_name("make-serve.output")
        with self._output.open("wb") as output:
            self._make = subprocess.Popen(
                ["bash", "-c", command],
                cwd=clone,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        kill_each([one.pid for one in family(self._make.pid)])
        self._make.wait(STOP_S)

    def wait_ready(self) -> None:
        """Until the ready line. Fails with what was printed if `make serve` ends without it."""
        wait_until(lambda: self._is_ready() or self._make.poll() is not None, 2 * MOST_S, "make serve to be ready")
        assert self._is_ready(), self._output.read_text()

    def stop_with_control_c(self) -> None:
        """A terminal sends SIGINT to all of the foreground. Nothing may be left running."""
        os.killpg(self._make.pid, signal.SIGINT)
        self._make.wait(STOP_S)
        wait_until(lambda: not family(self._make.pid), STOP_S, "every process of the service to end")

    def _is_ready(self) -> bool:
        return READY_LINE.search(self._output.read_text(errors="replace")) is not None
