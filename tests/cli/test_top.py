"""`gate top`: one snapshot for programs and pipes, and the live view in a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from harness.ports import free_port
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command

COLUMNS, LINES = "160", "40"


@pytest.fixture(scope="module")
def service(start_module_service: Services) -> GateService:
    """It counts the checks of all Apps."""
    return start_module_service.start()


def test_a_snapshot_has_what_happened(gate: Command) -> None:
    gate("ban", "ann", "--permanent", "--reason", "spam", "--actor", "joe")
    seen = gate.json("top")
    assert seen["app"] == gate.app and seen["online"] == {"users": 0, "sessions": 0}
    assert seen["redis"]["problem"] is None and seen["over_ms"] >= 900
    assert {"checks_per_s", "verdicts_per_s", "writes_per_s", "http_per_s"} <= seen["here"].keys()
    assert [node["answers"] for node in seen["nodes"]] == [True]
    assert [(one["what"], one["user"], one["reason"]) for one in seen["recent"]] == [("ban-imposed", "ann", "spam")]


def test_a_pipe_gets_plain_text(gate: Command) -> None:
    gate("ban", "ann\x1b[31m", "--permanent")
    shown = gate("top").out
    for words in (
        "Redis     ",
        "online    0 Users with 0 Sessions, App",
        "checks    ",
        "denied    none",
        "ban-imposed",
    ):
        assert words in shown
    assert "\x1b" not in shown


def test_checks_of_the_last_second_are_counted(service: GateService) -> None:
    """A router that asks all the time: its denials show by their reason."""
    key, secret = service.credentials.app_key, service.credentials.app_secret
    gate = Command(service.data, key)
    gate("ban", "ann", "--permanent")
    router = subprocess.Popen(
        [sys.executable, "-c", _ROUTER, "127.0.0.1", str(service.resp_port), key, secret], stdout=subprocess.PIPE
    )
    try:
        assert router.stdout is not None and router.stdout.readline() == b"asking\n"
        here = gate.json("top")["here"]
        assert here["verdicts_per_s"]["sender-banned"] > 0
        assert here["checks_per_s"] == pytest.approx(sum(here["verdicts_per_s"].values()))
    finally:
        router.kill()
        router.communicate()


def test_the_live_view_ends_with_q(gate: Command) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gate", "top"],
        env={**gate.env, "COLUMNS": COLUMNS, "LINES": LINES, "TERM": "xterm"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    screen = b""

    def shows_checks() -> bool:
        nonlocal screen
        if select.select([leader], [], [], 0.1)[0]:
            screen += os.read(leader, 65_536)
        return screen.count(b"checks    ") >= 2

    wait_until(shows_checks, 30, "the view was not drawn twice")
    os.write(leader, b"\x1b[B")  # an arrow, or a wheel
    screen = b""
    wait_until(shows_checks, 30, "the view was not drawn any more")
    os.write(leader, b"q")
    assert process.wait(20) == 0
    os.close(leader)


def test_nothing_that_runs_is_status_3(tmp_path: Path) -> None:
    nowhere = Command(tmp_path, "shop")
    assert "start `gate serve` there" in nowhere("top", status=3).err
    assert "127.0.0.1" in Command(tmp_path, "shop", f"redis://127.0.0.1:{free_port()}")("top", status=3).err


_ROUTER = """
import socket, sys
host, port, key, secret = sys.argv[1:]
link = socket.create_connection((host, int(port)))
link.sendall(f"AUTH {key} {secret}\\r\\n".encode())
assert link.recv(100) == b"+OK\\r\\n"
print("asking", flush=True)
while True:
    link.sendall(b"GATE.CHECK ann bob\\r\\n")
    assert link.recv(100) == b":0\\r\\n"
"""
