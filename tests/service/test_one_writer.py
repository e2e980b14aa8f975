"""One replicator a directory: one that starts while another still writes waits a little, then reports it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tests.service.running import refused


def test_a_replicator_that_will_not_end_is_named(tmp_path: Path) -> None:
    run = tmp_path / "data" / "run"
    run.mkdir(parents=True)
    descriptor = os.open(run / "replicator.writing", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        refusal = refused(tmp_path / "data")
    finally:
        os.close(descriptor)
    assert refusal.status == 1
    assert [line.startswith("gate: another replicator still writes in") for line in refusal.lines] == [True]
