"""Keeps the locust run alive: a few seconds of it, with every kind of user, and not one failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN_TIMEOUT_S = 100
LEASE = {"GATE_LEASE_TTL_MS": "60000"}
"""Longer than the run: a load client that other tests keep from renewing its lease would be refused, as it should be."""


@pytest.mark.timeout(RUN_TIMEOUT_S + 10)
def test_a_short_run_has_every_user_and_no_failure(tmp_path: Path) -> None:
    html = tmp_path / "load.html"
    command = [sys.executable, "-m", "loadtests.run", "--seconds", "6", "--scale", "0.001", "--html", str(html)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | LEASE, capture_output=True, text=True, timeout=RUN_TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (
        "GATE.CHECK x 100",
        "GET /v1/check",
        "POST /user/block.json",
        "effect of a write",
        "GATE.CONNECT",
        "GATE.ROUTE",
        "WS come",
        "WS presence",
        "WS storm of 50",
    ):
        assert name in done.stdout
    assert "locust" in html.read_text().lower()
