"""What the operating system refuses is one line on stderr and status 3, in every command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gate.cli.exit_status import EXIT_PIPE_CLOSED
from harness.service import Services
from tests.cli.command import Command
from tests.cli.forked import run_all

OTHER_UID = 65_534
COMMANDS = (
    ["check", "a", "b"],
    ["explain", "a", "b"],
    ["ban", "a", "--permanent"],
    ["bans"],
    ["mutes"],
    ["unban", "a"],
    ["blacklist", "list", "a"],
    ["user", "list"],
    ["user", "token", "a"],
    ["app", "list"],
    ["online"],
    ["sessions", "a"],
    ["gateways"],
    ["events"],
    ["audit"],
    ["webhooks", "list"],
    ["operator", "list"],
    ["import", "-"],
    ["export"],
    ["replica", "status"],
    ["replica", "verify"],
    ["replica", "rebuild"],
    ["status"],
    ["nodes"],
    ["config"],
)
SOME_APP = {"GATE_APP": "some-app"}
WITHOUT_OVERRIDE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Root as a user that file modes bind."""


def gate(
    *arguments: str | Path, before: Sequence[str] = (), app: str | None = "some-app", **more: object
) -> tuple[int, str]:
    """One call: its status and what it wrote to stderr."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GATE_")}
    env |= {"GATE_APP": app} if app else {}
    call = [*before, sys.executable, "-m", "gate", *arguments]
    done = subprocess.run(call, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, **more)  # type: ignore[call-overload]
    return done.returncode, done.stderr.decode()


def assert_refused(outcome: tuple[int, str], said: str) -> None:
    status, err = outcome
    assert (status, len(err.splitlines())) == (3, 1), err
    assert err.startswith("gate: ") and said in err, err


def closed(directory: Path) -> Sequence[str]:
    """Close a directory to whom runs commands with the prefix that this returns."""
    if os.geteuid():
        directory.chmod(0)
        return ()
    directory.chmod(0o700)
    os.chown(directory, OTHER_UID, OTHER_UID)
    return WITHOUT_OVERRIDE


def test_a_data_directory_that_may_not_be_read_is_status_3(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "replica").mkdir(parents=True)
    outcomes = run_all([[*command, "--data", str(data)] for command in COMMANDS], before=closed(data), env=SOME_APP)
    for outcome in outcomes:
        assert_refused(outcome, "Permission denied")


@pytest.mark.parametrize("inside", ["replica", "credentials.json", "redis"])
def test_a_part_of_the_directory_that_may_not_be_read(inside: str, start_service: Services) -> None:
    service = start_service.start()
    service.stop()
    before = closed(service.data / inside)
    command = ["bans"] if inside == "redis" else ["check", "a", "b"]
    app = None if inside == "credentials.json" else "some-app"
    assert_refused(gate(*command, "--data", service.data, before=before, app=app), "Permission denied")


def test_odd_data_directories_are_status_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    odd = (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "loop", tmp_path / ("x" * 300), "y/" * 3_000)
    calls = [[*command, "--data", str(data)] for data in odd for command in COMMANDS[::4]]
    for call, (status, err) in zip(calls, run_all(calls, env=SOME_APP), strict=True):
        assert (status, len(err.splitlines())) == (3, 1), (call, err)


@pytest.mark.parametrize("most", [5, 6, 7])
def test_too_few_descriptors_are_status_3(most: int) -> None:
    status, err = gate("bans", "--redis", "redis://127.0.0.1:1", before=("prlimit", f"--nofile={most}"))
    assert (status, len(err.splitlines())) == (3, 1), err


def test_a_directory_that_was_removed_under_the_command(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$0" && rmdir "$0" && exec "$@"'
    status, err = gate("bans", "--data", "x", before=("sh", "-c", script, str(gone)))
    assert status == 3 and len(err.splitlines()) == 1, err


def test_an_input_that_fails_while_it_is_read_is_status_3(anyone: Command) -> None:
    failing = ["import", "/proc/self/mem", "--format", "ndjson"]  # its first page can't be read: EIO
    (outcome,) = run_all([failing], env={"GATE_DATA": str(anyone.data), "GATE_APP": str(anyone.app)})
    assert_refused(outcome, "/proc/self/mem: Input/output error")


def test_an_output_that_can_not_be_written_is_no_denial(anyone: Command) -> None:
    env = {**os.environ, "GATE_DATA": str(anyone.data)}
    full = os.open("/dev/full", os.O_WRONLY)
    read, closed_pipe = os.pipe()
    os.close(read)
    for out, status in ((full, 3), (closed_pipe, 141)):
        call = [sys.executable, "-m", "gate", "check", "a", "b"]
        done = subprocess.run(call, env=env, stdout=out, stderr=subprocess.PIPE, timeout=60)
        assert (done.returncode, b"Traceback" in done.stderr) == (status, False), done.stderr
        os.close(out)


def test_a_terminal_without_unicode_is_no_reason_to_fail(tmp_path: Path) -> None:
    status, err = gate("check", "a", "b", "--data", str(tmp_path / "ünïcode"), before=("env", "PYTHONIOENCODING=ascii"))
    assert status == 3 and len(err.splitlines()) == 1 and "Traceback" not in err


@pytest.mark.parametrize("command", [["config"], ["config", "--json"], ["doctor"]], ids=" ".join)
def test_a_reader_that_closed_the_output_is_no_denial(command: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    env = {name: value for name, value in os.environ.items() if not name.startswith("GATE_")}
    call = [sys.executable, "-m", "gate", *command, "--data", str(tmp_path)]
    done = subprocess.run(call, env=env, stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (EXIT_PIPE_CLOSED, b"")
