"""How a reader opens the facts file in use: LMDB's environment, and the same file mapped for the compiled core.

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

_OPEN_TRIES = 3
"""The file that `current` named may be gone when it is opened: so often is the name read again."""


def open_current(directory: Path) -> tuple[Path, lmdb.Environment]:
    """The file in use and its environment, to be given back to `envs`. `ReplicaMissing` or `ReplicaForeign`."""
    for _ in range(_OPEN_TRIES - 1):
        try:
            path = current_facts(directory)
            return path, envs.acquire(path)
        except ReplicaMissing:
            continue
    path = current_facts(directory)
    return path, envs.acquire(path)


def mapped(path: Path, env: lmdb.Environment) -> Snapshot | None:
    """The file as the core reads it; None where there is no core, or the name leads to another file by now."""
    core = trusted_core()
    if core is None:
        return None
    try:
        snapshot: Snapshot = core.Snapshot(os.path.realpath(path))
    except (OSError, ValueError):
        return None
    if snapshot.file == envs.file_of(path, env):
        return snapshot
    snapshot.close()
    return None
