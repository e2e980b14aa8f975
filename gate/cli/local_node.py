"""Whether this machine's replicator runs, according to the data directory."""

from __future__ import annotations

import os
from pathlib import Path

from gate.clock import monotonic_ms
from gate.errors import ReplicaError
from gate.replica.layout import BOARD_FILE
from gate.replica.status_page import State, StatusPage, StatusView


def replicator_lives(status_page: StatusView) -> bool:
    """Whether the process that wrote the status page still runs."""
    if not status_page.pid or status_page.state is State.STOPPED:
        return False
    try:
        os.kill(status_page.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as another user
        return True
    return True


def replicator_runs(directory: Path) -> bool:
    """Whether the replicator of the Replica in `directory` runs; False if the directory has no Replica."""
    try:
        status_page = StatusPage(directory / BOARD_FILE)
    except ReplicaError:
        return False
    try:
        return replicator_lives(status_page.view(monotonic_ms()))
    finally:
        status_page.close()
