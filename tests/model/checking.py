"""Runs spin over a model in `models/`: the C program that it writes is compiled, and searches every state within the bounds."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

MODELS = Path(__file__).parents[2] / "models"
MAX_DEPTH = 2_000_000
MEMORY_MB = 6_000


class Searched(NamedTuple):
    """The result of a search."""

    violations: int
    is_complete: bool
    """Every state within the bounds was reached."""
    report: str


def search(model: str, directory: Path, *macros: str, is_large: bool = False) -> Searched:
    """Search `models/<model>.pml` with macros such as "FLUSHES=1", until the first violation."""
    defined = [f"-D{macro}" for macro in macros]
    written = subprocess.run(
        ["spin", "-a", *defined, str(MODELS / f"{model}.pml")], cwd=directory, capture_output=True, text=True
    )
    assert written.returncode == 0, written.stdout + written.stderr
    # For a small search compiling dominates. A large one compresses its states.
    how = ["-O2", "-DCOLLAPSE"] if is_large else ["-O0"]
    compiled = ["gcc", *how, "-w", "-DSAFETY", f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"]
    subprocess.run(compiled, cwd=directory, check=True)
    searched = subprocess.run(["./pan", f"-m{MAX_DEPTH}", "-w22"], cwd=directory, capture_output=True, text=True)
    report = searched.stdout + searched.stderr
    errors = re.search(r"errors: (\d+)", report)
    assert errors is not None, report[-2_000:]
    cut_short = ("max search depth too small", "out of memory", "Search not completed")
    return Searched(int(errors[1]), not any(word in report for word in cut_short), report)
