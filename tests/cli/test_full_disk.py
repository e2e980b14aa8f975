"""`gate … > file` on a disk that is full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no file here that is always full")
@pytest.mark.parametrize("command", [["--help"], ["doctor", "--json", "--data", "nowhere"]])
def test_output_that_can_not_be_written_is_one_line_and_a_failure(command: list[str]) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gate", *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 3
    assert done.stderr == "gate: the output could not be written: No space left on device\n"
