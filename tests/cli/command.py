"""Runs the real `gate` command as people do: another process, its exit status, what it printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """How one call ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """`gate` on one data directory and App. A traceback is a failure wherever it appears."""

    def __init__(self, data: Path, app: str | None = None, redis: str | None = None) -> None:
        self.data = data
        self.app = app
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("GATE_")}
        self.env |= {"GATE_DATA": str(data), "COLUMNS": "200"}
        if app is not None:
            self.env["GATE_APP"] = app
        if redis is not None:
            self.env["GATE_REDIS"] = redis

    def __call__(self, *arguments: str | bytes | Path, stdin: bytes = b"", status: int | None = 0) -> Result:
        """One call; it must end with `status` (None: any)."""
        run = subprocess.run(
            [sys.executable, "-m", "gate", *arguments],
            input=stdin,
            capture_output=True,
            env=self.env,
            timeout=TIMEOUT_S,
        )
        result = Result(run.returncode, run.stdout.decode(), run.stderr.decode())
        assert "Traceback" not in result.err, result.err
        assert status is None or result.status == status, f"{arguments}: {result}"
        return result

    def json(self, *arguments: str | bytes | Path, stdin: bytes = b"", status: int | None = 0) -> Any:
        """One call with `--json`; what it printed, decoded."""
        return self(*arguments, "--json", stdin=stdin, status=status).json
