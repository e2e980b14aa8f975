"""One LMDB environment per facts file and process.

LMDB forbids opening a file twice in one process (closing one handle drops the other's file locks), while a program may well
open two `Replica` objects on one directory, and each thread follows a swap to a newer file at its own moment. So environments
are shared and counted here; the last user closes. What is shared is the file, not its name: one that was deleted and made
again under its old name is another.

After a fork, parent and child would hold one place in LMDB's table of readers: what either ends, the writer takes as ended for
both, and writes over pages that the other reads. So a child uses nothing that was open before, and closes none of it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import lmdb

from gate.errors import ReplicaError, ReplicaForeign, ReplicaMissing
from gate.replica.files import Identity
from gate.replica.layout import LAYOUT_VERSION, MAP_BYTES, MAX_READERS, META_LAYOUT
from gate.replica.rebuild_requests import report_damage

DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)
"""LMDB's errors that are of the file; its others are of the machine or of how it is used."""

LOCK_FILE_BYTES = 4_096 + 64 * MAX_READERS
"""What LMDB makes of its lock file: a head, and a cache line for each reader."""

_lock = threading.RLock()
"""Reentrant, since a garbage collection in the middle may end a Replica, which gives back its own."""
_open: dict[str, list[_Shared]] = {}
_of_parent: list[_Shared] = []
"""Open when this process was forked."""


@dataclass(slots=True)
class _Shared:
    env: lmdb.Environment
    file: Identity | None
    users: int


def acquire(path: Path) -> lmdb.Environment:
    """The file's environment, read-only, opened once in this process. `ReplicaMissing` or `ReplicaForeign` if it can't be."""
    name = os.path.realpath(path)
    with _lock:
        file = _identity(name)
        known = _known(name, file)
        if known is not None:
            known.users += 1
            return known.env
        if any(shared.file == file for shared in _of_parent):
            raise ReplicaError(f"{name} was open in this process before it forked: open a Replica after the fork only")
        env = _opened(name)
        if _identity(name) != file:
            env.close()
            raise ReplicaMissing(f"{name} was replaced while it was opened")
        return _kept(name, env)


def acquire_writable(path: Path, map_bytes: int = MAP_BYTES) -> lmdb.Environment:
    """The file's environment for its one writer, created if missing; readers in this process share it from then on.

    Without fsync: facts must outlive a process, not the machine, which is told apart by its boot id (see `writer`).
    """
    name = os.path.realpath(path)
    with _lock:
        known = _known(name, _identity(name))
        if known is None:
            return _kept(name, _created(name, map_bytes))
        if known.env.flags()["readonly"]:
            raise ReplicaError(f"{name} is open for reading in this process, so it can't be opened for writing")
        known.users += 1
        return known.env


def release(path: Path, env: lmdb.Environment | None = None) -> None:
    """Give back what `acquire` handed out; which one, where a file was made again under the name (else the newest)."""
    name = os.path.realpath(path)
    with _lock:
        all_shared = _open[name]
        shared = next(one for one in reversed(all_shared) if env is None or one.env is env)
        shared.users -= 1
        if shared.users:
            return
        all_shared.remove(shared)
        if not all_shared:
            del _open[name]
        # Inside the lock: py-lmdb refuses a file whose inode it has not yet forgotten, and a new file may be given that inode.
        shared.env.close()


def file_of(path: Path, env: lmdb.Environment) -> Identity | None:
    """Which file an environment has open, whatever the name leads to by now."""
    with _lock:
        return next((shared.file for shared in _open[os.path.realpath(path)] if shared.env is env), None)


def open_count(directory: Path) -> int:
    """How many environments this process has open of files in and under a directory: to find one that was never given back."""
    above = os.path.join(os.path.realpath(directory), "")
    with _lock:
        return sum(len(shared) for name, shared in _open.items() if name.startswith(above))


def keep_for_ever(*held: object) -> None:
    """In the child of a fork: let go of none of these, nor at the end of the interpreter, which lets go of all else.

    An environment frees the places of its idle transactions when it goes, and a transaction its own: they are the parent's.
    """
    import ctypes  # late: only such a child needs it

    for one in held:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


def _leave_to_parent() -> None:
    for all_shared in _open.values():
        _of_parent.extend(all_shared)
        keep_for_ever(*(shared.env for shared in all_shared))
    _open.clear()
    _lock.release()


# Held across a fork, so that no other thread's hold on it stays for ever in the child.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_leave_to_parent)


def _identity(name: str) -> Identity | None:
    try:
        status = os.stat(name)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _known(name: str, file: Identity | None) -> _Shared | None:
    return next((shared for shared in _open.get(name, ()) if shared.file == file), None)


def _kept(name: str, env: lmdb.Environment) -> lmdb.Environment:
    _open.setdefault(name, []).append(_Shared(env, _identity(name), 1))
    return env


def _opened(name: str) -> lmdb.Environment:
    if os.path.exists(name) and not os.path.exists(f"{name}-lock"):
        # One made here would be another than the writer has, which would then write over pages that are being read.
        raise ReplicaForeign(f"{name}-lock was taken away; the replicator (gate serve) makes both files again")
    if os.path.exists(name) and not os.access(f"{name}-lock", os.W_OK):
        # On a read-only file system LMDB would read without a place among the readers, and pages be written over meanwhile.
        raise ReplicaForeign(
            f"{name}-lock can't be written from here: a reader takes its place in it, so mount it read-write"
        )
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
    except lmdb.LockError:  # py-lmdb begins a transaction at once
        raise ReplicaForeign(_same_pid(name)) from None
    except lmdb.MemoryError:
        raise ReplicaForeign(
            f"{name} can't be mapped: that takes {MAP_BYTES >> 40} TiB of addresses, though no memory; lift ulimit -v"
        ) from None
    except lmdb.Error as fault:
        if not os.path.exists(name):
            raise ReplicaMissing(f"no facts file at {name}") from None
        _report(name, fault)
        raise ReplicaForeign(f"{name} can't be opened: {fault}") from None
    try:
        _require_length(name, env)
        with env.begin() as txn:
            layout = txn.get(META_LAYOUT)
    except lmdb.Error as fault:
        env.close()
        _report(name, fault)
        raise ReplicaForeign(f"{name} is damaged: {fault}") from None
    if layout != LAYOUT_VERSION:
        env.close()
        raise ReplicaForeign(f"{name} is of another layout, {layout!r}; the replicator rebuilds it")
    return env


def _require_length(name: str, env: lmdb.Environment) -> None:
    """To read a page behind the end of the file would end this process with SIGBUS."""
    pages = env.info()["last_pgno"] + 1
    if os.path.getsize(name) < pages * env.stat()["psize"]:
        raise lmdb.CorruptedError(f"it is cut short, its {pages} pages are not all there")


def _report(name: str, fault: lmdb.Error) -> None:
    if isinstance(fault, DAMAGE):
        report_damage(Path(name), str(fault))


def _created(name: str, map_bytes: int) -> lmdb.Environment:
    _reserve_lock_file(f"{name}-lock")
    try:
        env = lmdb.open(
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
    except lmdb.LockError:
        raise ReplicaForeign(_same_pid(name)) from None
    except lmdb.Error as fault:
        raise ReplicaForeign(f"{name} can't be opened for writing: {fault}") from None
    # Takes this process's place in the lock file now: a reader of the same id is refused then, and not the writer.
    try:
        with env.begin():
            return env
    except lmdb.LockError:
        env.close()
        raise ReplicaForeign(_same_pid(name)) from None


def _same_pid(name: str) -> str:
    """LMDB knows readers by their process id, which it locks a byte for; two namespaces may give the same one."""
    return (
        f"{name} is in use by another process with this one's id, {os.getpid()}: containers that share a data directory "
        "must share their process ids too (shareProcessNamespace: true, --pid=container:NAME, pid: service:NAME)"
    )


def _reserve_lock_file(name: str) -> None:
    """LMDB maps this file with holes, and on a disk that got full the next reader's first touch of one would end its process.

    Only where there is none yet: to open and close it later would drop the locks that LMDB holds on it.
    """
    if os.path.exists(name):
        return
    try:
        with open(name, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(bytes(LOCK_FILE_BYTES))
    except FileExistsError:
        return  # a reader was first
    except OSError as fault:
        Path(name).unlink(missing_ok=True)
        raise ReplicaForeign(f"{name} can't be written: {fault.strerror}") from None


class Closed:
    """Stands where a closed Reading's environment was, so that using it says so, at no cost while it is open."""

    def __init__(self, problem: str = "this Replica was closed") -> None:
        self._problem = problem

    def begin(self) -> lmdb.Transaction:
        """Raises `ReplicaError`."""
        raise ReplicaError(self._problem)
