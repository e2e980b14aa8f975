"""The embedded server: its program, its address under any path, and that it ends with its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gate.errors import CannotStart
from gate.service import embedded, parent_death
from gate.service.embedded import prepare_socket, server_program, socket_path, socket_url
from gate.store.store import Store
from harness.processes import is_alive
from harness.waiting import wait_until, wait_until_async


def test_the_wheel_carries_a_program() -> None:
    assert os.access(server_program(None), os.X_OK)


@pytest.mark.parametrize("path", ["/no/such/program", "/etc/passwd", "/"])
def test_what_is_no_program_is_named(path: str) -> None:
    with pytest.raises(CannotStart, match="--redis-server PATH"):
        server_program(path)


def test_the_socket_lies_in_the_data_directory(tmp_path: Path) -> None:
    assert prepare_socket(tmp_path) == socket_path(tmp_path) == tmp_path / "redis.sock"


def test_a_path_too_long_for_a_socket_is_moved_and_remembered(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    moved = prepare_socket(deep)
    assert len(os.fsencode(moved)) <= 107
    assert moved.parent.stat().st_mode & 0o777 == 0o700
    assert socket_path(deep) == moved
    assert prepare_socket(deep) == moved
    moved.parent.rmdir()
    assert prepare_socket(deep) != moved  # somebody cleaned /tmp
    socket_path(deep).parent.rmdir()


@pytest.mark.parametrize("name", ["plain", "with space", "per%20cent", "question?mark", "hash#", "ünïcode"])
async def test_a_store_connects_whatever_the_path_is_called(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    socket = prepare_socket(folder)
    process = await asyncio.create_subprocess_exec(*embedded.command(server_program(None), folder, socket))
    try:
        await wait_until_async(lambda: embedded.answers(socket), 10, "the server to answer")
        store = await Store.connect(socket_url(socket))
        await store.ping()
        await store.aclose()
    finally:
        process.terminate()
        await process.wait()


async def test_nothing_answers_where_nothing_listens(tmp_path: Path) -> None:
    assert not await embedded.answers(tmp_path / "none.sock")


PARENT = """
import os, signal, subprocess, sys
command = [str(os.getpid()) if word == "PARENT" else word for word in sys.argv[1:]]
print(subprocess.Popen(command).pid, flush=True)
signal.pause()
"""


def launcher(parent_pid: int, lock: Path, *command: str) -> list[str]:
    return [sys.executable, "-I", "-S", parent_death.__file__, str(parent_pid), str(lock), *command]


def test_a_second_server_waits_until_the_first_has_left_its_files(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    first = subprocess.Popen(launcher(os.getpid(), lock, "/bin/sleep", "60"))
    wait_until(lambda: b"sleep" in Path(f"/proc/{first.pid}/cmdline").read_bytes()[:12], 10, "the first to be sleep")
    second = subprocess.Popen(launcher(os.getpid(), lock, "/bin/echo", "mine"), stdout=subprocess.PIPE)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(0.3)
        first.kill()
        assert second.communicate(timeout=10)[0] == b"mine\n"
    finally:
        first.kill()
        first.wait()
        second.kill()


def test_it_gets_a_signal_when_its_parent_dies(tmp_path: Path) -> None:
    command = launcher(0, tmp_path / "lock", "/bin/sleep", "60")
    command[4] = "PARENT"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *command], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until(lambda: b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes()[:12], 10, "the child to be sleep")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not is_alive(child), 10, "the child to end with its parent")


def test_a_parent_that_is_gone_already_is_noticed(tmp_path: Path) -> None:
    done = subprocess.run(launcher(1, tmp_path / "lock", "/bin/echo", "orphan"), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_program_that_cannot_be_run_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(launcher(os.getpid(), tmp_path / "lock", "/etc/passwd"), capture_output=True, check=False)
    assert done.returncode == parent_death.EXIT_NO_PROGRAM
    assert done.stderr.count(b"\n") == 1
