"""The library that writes down how long a thread was at something between two looks at its sockets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench.load import build
from loadtests.bench.pauses import SOURCE, Pause, read

WORKING_S = 0.06
WORK = f"""
import select, time
with select.epoll() as poll:
    poll.poll(0)
    started = time.process_time()
    while time.process_time() - started < {WORKING_S}:
        pass
    poll.poll(0)
"""
SLEEP = f"""
import select, time
with select.epoll() as poll:
    poll.poll(0)
    time.sleep({WORKING_S})
    poll.poll({WORKING_S * 3})
    poll.poll(0)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("the library takes a C compiler")
    return build(
        SOURCE, tmp_path_factory.mktemp("pauses") / "pauses.so", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"
    )


def longest(library: Path, folder: Path, program: str) -> Pause:
    env = os.environ | {"LD_PRELOAD": str(library), "GATE_BENCH_PAUSES": str(folder)}
    with subprocess.Popen([sys.executable, "-c", program], env=env) as running:
        assert running.wait(30) == 0
    return read(folder / str(running.pid))


def test_work_between_two_looks_is_a_pause_of_its_own_making(library: Path, tmp_path: Path) -> None:
    pause = longest(library, tmp_path, WORK)
    assert WORKING_S * 1_000 <= pause.cpu_ms <= pause.own_ms * 1.05
    assert pause.own_ms <= pause.wall_ms
    assert pause.looks == 2


def test_sleep_is_one_too_but_waiting_for_a_socket_is_not(library: Path, tmp_path: Path) -> None:
    pause = longest(library, tmp_path, SLEEP)
    assert WORKING_S * 1_000 <= pause.own_ms < WORKING_S * 3_000
    assert pause.cpu_ms < WORKING_S * 1_000
    assert pause.looks == 3
