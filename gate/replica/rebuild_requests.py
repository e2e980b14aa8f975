"""How anybody on the node asks the replicator for something: by leaving a file in the Replica's directory.

A file, because it works over no connection and with no replicator running: the next one to start takes it up. The running
one looks a few times a second. Called by `gate replica rebuild`, and by readers that meet a page which can't be read.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from gate.replica.files import DAMAGED_FILE, REBUILD_FILE

MAX_REASON_BYTES = 500


def ask_to_rebuild(directory: Path) -> None:
    """Ask for the Replica in `directory` to be loaded anew; the old facts are served until then."""
    (directory / REBUILD_FILE).touch(mode=0o600)


def report_damage(facts: Path, reason: str) -> None:
    """Report that the facts file can't be read. The first report stands; one who may only read can't make any.

    Where the disk is full there is no report, and the next read that fails makes one.
    """
    path = facts.with_name(DAMAGED_FILE)
    try:
        report = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        with open(report, "wb") as file:
            file.write(f"{facts.name}\n{reason}\n".encode()[:MAX_REASON_BYTES])
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
