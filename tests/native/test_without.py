"""Readers and the RESP port keep their promises without the compiled core: their tests again, in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gate import native

REPOSITORY = Path(__file__).parents[2]
SUITES = [
    "tests/replica/test_reading.py",
    "tests/replica/test_reader.py",
    "tests/wire/test_commands.py",
    "tests/wire/test_connection.py",
    "tests/wire/test_dropped_secrets.py",
    "tests/wire/test_fresh.py",
]


@pytest.mark.skipif(native.core is None, reason="then all tests run without it")
@pytest.mark.timeout(300)
def test_readers_and_the_resp_port_without_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *SUITES],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        | {"GATE_NATIVE": "0"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-4_000:]
