"""One LMDB environment per facts file and process.

LMDB forbids opening a file twice in one process (closing one handle drops the other's file locks), while a program may well
open two `Replica` objects on one directory, and each thread follows a swap to a newer file at its own moment. So environments
are shared and counted here; the last user closes. Never open one before a fork.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import lmdb

from gate.errors import ReplicaForeign, ReplicaMissing
from gate.replica.layout import LAYOUT_VERSION, MAP_BYTES, MAX_READERS, META_LAYOUT

_lock = threading.Lock()
_open: dict[str, tuple[lmdb.Environment, int]] = {}


def acquire(path: Path) -> lmdb.Environment:
    """The file's environment, read-only, opened once in this process. `ReplicaMissing` or `ReplicaForeign` if it can't be."""
    name = os.path.realpath(path)
    with _lock:
        known = _open.get(name)
        env = known[0] if known else _opened(name)
        _open[name] = (env, known[1] + 1 if known else 1)
    return env


def acquire_writable(path: Path, map_bytes: int = MAP_BYTES) -> lmdb.Environment:
    """The file's environment for its one writer, created if missing; readers in this process share it from then on.

    Without fsync: facts must outlive a process, not the machine, which is told apart by its boot id (see `writer`).
    """
    name = os.path.realpath(path)
    with _lock:
        known = _open.get(name)
        if known and known[0].flags()["readonly"]:
            raise ReplicaForeign(f"{name} is open for reading in this process, so it can't be opened for writing")
        env = known[0] if known else _created(name, map_bytes)
        _open[name] = (env, known[1] + 1 if known else 1)
    return env


def release(path: Path) -> None:
    """Give back what `acquire` handed out."""
    name = os.path.realpath(path)
    with _lock:
        env, users = _open[name]
        if users > 1:
            _open[name] = (env, users - 1)
            return
        del _open[name]
    env.close()


def _opened(name: str) -> lmdb.Environment:
    try:
        env = lmdb.open(
            name,
            subdir=False,
            readonly=True,
            create=False,
            map_size=MAP_BYTES,
            max_readers=MAX_READERS,
            max_spare_txns=4,
            readahead=False,
        )
    except (FileNotFoundError, lmdb.NotFoundError):
        raise ReplicaMissing(f"no facts file at {name}") from None
    except lmdb.Error as fault:
        if not os.path.exists(name):
            raise ReplicaMissing(f"no facts file at {name}") from None
        raise ReplicaForeign(f"{name} can't be opened: {fault}") from None
    with env.begin() as txn:
        layout = txn.get(META_LAYOUT)
    if layout != LAYOUT_VERSION:
        env.close()
        raise ReplicaForeign(f"{name} is of another layout, {layout!r}; the replicator rebuilds it")
    return env


def _created(name: str, map_bytes: int) -> lmdb.Environment:
    try:
        return lmdb.open(
            name,
            subdir=False,
            map_size=map_bytes,
            max_readers=MAX_READERS,
            max_spare_txns=4,
            readahead=False,
            sync=False,
            metasync=False,
            mode=0o600,
        )
    except lmdb.Error as fault:
        raise ReplicaForeign(f"{name} can't be opened for writing: {fault}") from None
