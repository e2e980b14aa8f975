"""RongCloud's SDKs as processes: started on a Gate's host, called by name, and skipped by name where one is not installed.

`scripts/install-sdks` installs them; what it could not install, it says why. An SDK runs in a process of its own because two
are one package by name, because most are changed for good by the first host they meet, and because two are not Python.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / ".venv" / "sdks"
NODE = HERE / "node"

PYTHON_SDKS = ("rc-server-sdk-3.2.0", "rongcloud-2.0.1", "rongcloud-server-sdk-python-0.0.2")
NODE_SDKS = ("rongcloud-sdk", "rongcloud-sdk-1")
"""3.1.1 and 1.0.3, by the names that they are installed under."""

SUITE_TIMEOUT_S = 60.0


class Raised(Exception):
    """What the SDK threw at its caller instead of answering."""

    def __init__(self, fault: Any) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Sdk:
    """One SDK, set up with a host and an App's key and secret. `sdk("user.block", "u1", 10)` calls it."""

    def __init__(self, name: str, host: str, key: str, secret: str) -> None:
        skip_unless_installed(name)
        self._process = subprocess.Popen(
            [*_driver(name), name, host, key, secret],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(INSTALLED / name), "PYTHONUTF8": "1", "PYTHONWARNINGS": "ignore"},
        )

    def __call__(self, call: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([call, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the SDK's process ended with {self._process.wait()}"
        answer = json.loads(line)
        if "raised" in answer:
            raise Raised(answer["raised"])
        return answer.get("returned")

    def __enter__(self) -> Sdk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def run_suite(name: str, host: str) -> dict[str, Any]:
    """The suite that a Node SDK was published with: `{"passed": [names], "failed": {name: why}}`."""
    skip_unless_installed(name)
    command = ["node", str(NODE / "suite.js"), name, host]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SUITE_TIMEOUT_S)
    assert run.returncode == 0, run.stderr
    results: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return results


def skip_unless_installed(name: str) -> None:
    """Skip the test, with the reason that the installation left, if it could not be installed here."""
    is_node = name in NODE_SDKS
    # Copied there as the last step.
    stamp = NODE / "node_modules" / "installed.lock" if is_node else INSTALLED / name / "installed.lock"
    if stamp.exists() and not (is_node and shutil.which("node") is None):
        return
    why = INSTALLED / f"{'node' if is_node else name}.absent"
    pytest.skip(why.read_text().strip() if why.exists() else f"{name} is not installed: run scripts/install-sdks")


def _driver(name: str) -> list[str]:
    if name in NODE_SDKS:
        # Found now: the process gets no PATH.
        return [str(shutil.which("node")), str(NODE / "driver.js")]
    return [sys.executable, str(HERE / "python" / "driver.py")]
