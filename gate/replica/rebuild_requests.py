"""Requests to the replicator: any process on the node leaves a file in the Replica's directory.

A file needs no connection and no running replicator: the next one to start finds it. A running one looks a few times a second.
Called by `gate replica rebuild`, and by readers that find an unreadable page.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from gate.replica.files import DAMAGED_FILE, REBUILD_FILE

MAX_REASON_BYTES = 500


def request_rebuild(directory: Path) -> None:
    """Request a fresh load of the Replica in `directory`. The old facts are served until it is complete."""
    (directory / REBUILD_FILE).touch(mode=0o600)


def report_damage(facts: Path, reason: str) -> None:
    """Report that the facts file can't be read. The first report counts; a process with read access only can't report.

    If the disk is full there is no report, and the next failing read tries again.
    """
    path = facts.with_name(DAMAGED_FILE)
    try:
        # O_EXCL: the first report counts.
        report = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        with open(report, "wb") as file:
            file.write(f"{facts.name}\n{reason}\n".encode()[:MAX_REASON_BYTES])
    except OSError:
        with contextlib.suppress(OSError):
            # An empty report would cause a reload without a reason.
            path.unlink()
