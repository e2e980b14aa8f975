"""Opening of the facts file in use: the LMDB environment, and the same file mapped for the compiled core.

Called by `reading` when it starts, and when another file was put in use.
"""

from __future__ import annotations

import os
from pathlib import Path

import lmdb

from gate.errors import ReplicaMissing
from gate.native import Snapshot
from gate.replica import envs
from gate.replica.layout import current_facts
from gate.replica.native_core import trusted_core

# The file that `current` named may be deleted before it is opened. The name is read again this many times.
_OPEN_TRIES = 3


def open_current(directory: Path) -> tuple[Path, lmdb.Environment]:
    """Return the file in use and its environment, to be released to `envs`. Raises `ReplicaMissing` or `ReplicaForeign`."""
    for _ in range(_OPEN_TRIES - 1):
        try:
            path = current_facts(directory)
            return path, envs.acquire(path)
        except ReplicaMissing:
            continue
    path = current_facts(directory)
    return path, envs.acquire(path)


def map_for_core(path: Path, env: lmdb.Environment) -> Snapshot | None:
    """Map the file for the core. Returns None if there is no core, or if the name leads to another file by now."""
    core = trusted_core()
    if core is None:
        return None
    try:
        snapshot: Snapshot = core.Snapshot(os.path.realpath(path))
    except (OSError, ValueError):
        return None
    # Compared after both were opened: the name may have moved in between.
    if snapshot.file == envs.file_of(path, env):
        return snapshot
    snapshot.close()
    return None
