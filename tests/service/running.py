"""What tests of a running service share: starts that are refused, probes, and its processes by role."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from harness.processes import family
from harness.service import GateService
from harness.waiting import wait_until

REFUSAL_TIMEOUT_S = 20.0


class Refusal(NamedTuple):
    """How a start that can't be ended."""

    status: int
    out: str
    lines: list[str]


def refused(data: Path, *options: str, env: dict[str, str] | None = None, under: Sequence[str] = ()) -> Refusal:
    """Run a start that should fail by itself, on ports of its own unless given; nothing may be left running.

    `under` is a command that runs it, as `nice`.
    """
    command = [*under, sys.executable, "-m", "gate", "serve", "--data", str(data)]
    for flag in ("--http", "--resp"):
        command += [] if flag in options else [flag, "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=REFUSAL_TIMEOUT_S)
    finally:
        process.kill()
    assert family(process.pid) == [], "left running"
    return Refusal(process.returncode, out, err.splitlines())


def get(service: GateService, path: str) -> tuple[int, str]:
    """A GET without credentials."""
    try:
        with urllib.request.urlopen(service.http + path, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def readyz(service: GateService) -> tuple[int, dict[str, Any]]:
    """The probe, decoded."""
    status, body = get(service, "/readyz")
    return status, json.loads(body)


def is_ready(service: GateService) -> bool:
    """Whether the probe says 200; no while HTTP itself is away."""
    try:
        return readyz(service)[0] == 200
    except OSError:
        return False


def restarts(service: GateService, role: str) -> float:
    """How often a role was restarted, off /metrics."""
    name = f'gate_role_restarts_total{{role="{role}"}} '
    lines = [line for line in get(service, "/metrics")[1].splitlines() if line.startswith(name)]
    return float(lines[0].removeprefix(name)) if lines else 0.0


def pid_of(service: GateService, role: str) -> int | None:
    """The process that runs a role now, or None between two."""
    mark = "valkey-server" if role == "redis" else f"gate.service.role {role} "
    found = [one.pid for one in service.processes() if mark in one.command + " "]
    return found[0] if len(found) == 1 else None


def kill(service: GateService, role: str) -> None:
    """SIGKILL to the process of a role; returns once another runs."""
    before = wait_until(lambda: pid_of(service, role), 10, f"the {role}")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: pid_of(service, role) not in (None, before), 10, f"another {role}")


@contextmanager
def listening_systemd(folder: Path) -> Iterator[tuple[dict[str, str], Callable[[], list[str]]]]:
    """The socket of a manager of services: the environment that names it, and all lines that it was sent so far."""
    path, seen = folder / "notify", list[str]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.setblocking(False)

        def lines() -> list[str]:
            with suppress(BlockingIOError):
                while True:
                    seen.extend(listening.recv(4096).decode().splitlines())
            return seen

        yield {"NOTIFY_SOCKET": str(path)}, lines
