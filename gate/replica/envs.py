"""One LMDB environment per facts file and process.

LMDB forbids opening a file twice in one process (closing one handle drops the other's file locks). But a program may open two
`Replica` objects on one directory, and each thread follows a swap to a newer file at its own moment. So environments are shared
and counted here; the last user closes. The unit of sharing is the file, not its name: a file that was deleted and created again
under its old name is another one.

After a fork, parent and child would share one slot in LMDB's table of readers. When one ends its transaction, the writer
treats both as ended and overwrites pages that the other still reads. So a child uses nothing that was open before the fork, and
closes none of it.

`open_current` and `map_for_core` open the file in use, for `reading`: when it starts, and when another file was put in use.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import lmdb

from gate.errors import ReplicaError, ReplicaForeign, ReplicaMissing
from gate.native import Snapshot
from gate.replica.files import Identity, report_damage
from gate.replica.layout import LAYOUT_VERSION, MAP_BYTES, MAX_READERS, META_LAYOUT, current_facts
from gate.replica.native_core import trusted_core

# LMDB errors caused by the file. Its other errors are caused by the machine or by wrong use.
DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)

# The file that `current` named may be deleted before it is opened. The name is read again this many times.
_OPEN_TRIES = 3
# Size that LMDB gives its lock file: a header, and a cache line for each reader.
LOCK_FILE_BYTES = 4_096 + 64 * MAX_READERS

# Reentrant, since a garbage collection inside a locked section may destroy a Replica, which releases its environment.
_lock = threading.RLock()
_open: dict[str, list[_Shared]] = {}
# Environments that were open when this process was forked.
_of_parent: list[_Shared] = []


@dataclass(slots=True)
class _Shared:
    env: lmdb.Environment
    file: Identity | None
    users: int


def open_current(directory: Path) -> tuple[Path, lmdb.Environment]:
    """Return the file in use and its environment, to be released to `envs`. Raises `ReplicaMissing` or `ReplicaForeign`."""
    for _ in range(_OPEN_TRIES - 1):
        try:
            path = current_facts(directory)
            return path, acquire(path)
        except ReplicaMissing:
            continue
    path = current_facts(directory)
    return path, acquire(path)


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
    if snapshot.file == file_of(path, env):
        return snapshot
    snapshot.close()
    return None


def acquire(path: Path) -> lmdb.Environment:
    """Return the file's read-only environment, opened once per process. Raises `ReplicaMissing` or `ReplicaForeign`."""
    name = os.path.realpath(path)
    with _lock:
        file = _identity(name)
        known = _known(name, file)
        if known is not None:
            known.users += 1
            return known.env
        # py-lmdb refuses to open the file again, and the inherited environment is unusable.
        if any(shared.file == file for shared in _of_parent):
            raise ReplicaError(f"{name} was open in this process before it forked: open a Replica after the fork only")
        env = _opened(name)
        # The name may have been replaced between stat and open; a cached environment must match its file.
        if _identity(name) != file:
            env.close()
            raise ReplicaMissing(f"{name} was replaced while it was opened")
        return _kept(name, env)


def acquire_writable(path: Path, map_bytes: int = MAP_BYTES) -> lmdb.Environment:
    """Return the file's environment for its single writer. Creates the file; readers in this process share the environment.

    Commits are not fsynced: facts must survive a process, not the machine, which is recognized by its boot id (see `writer`).
    """
    name = os.path.realpath(path)
    with _lock:
        known = _known(name, _identity(name))
        if known is None:
            return _kept(name, _created(name, map_bytes))
        # A second, writable environment of the file is forbidden, see above.
        if known.env.flags()["readonly"]:
            raise ReplicaError(f"{name} is open for reading in this process, so it can't be opened for writing")
        known.users += 1
        return known.env


def release(path: Path, env: lmdb.Environment | None = None) -> None:
    """Release what `acquire` returned. `env` selects one if a file was created again under the name (else the newest)."""
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
        # Inside the lock: py-lmdb refuses a file whose inode it still remembers, and a new file may get that inode.
        shared.env.close()


def file_of(path: Path, env: lmdb.Environment) -> Identity | None:
    """Return which file an environment has open, wherever its name leads by now."""
    with _lock:
        return next((shared.file for shared in _open[os.path.realpath(path)] if shared.env is env), None)


def open_count(directory: Path) -> int:
    """Return the number of environments of files under a directory that this process has open. Tests find leaks with it."""
    above = os.path.join(os.path.realpath(directory), "")
    with _lock:
        return sum(len(shared) for name, shared in _open.items() if name.startswith(above))


def keep_for_ever(*held: object) -> None:
    """In a forked child: never release these objects, not even at interpreter exit.

    A destroyed environment frees the slots of its idle transactions, and a transaction frees its own; they are the parent's.
    """
    import ctypes  # late: only a forked child needs it

    for one in held:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


def _leave_to_parent() -> None:
    for all_shared in _open.values():
        _of_parent.extend(all_shared)
        keep_for_ever(*(shared.env for shared in all_shared))
    _open.clear()
    # Acquired by the fork hook below.
    _lock.release()


# Held during a fork, so that no other thread holds it forever in the child.
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
        # A lock file created here would differ from the writer's, which would then overwrite pages that are being read.
        raise ReplicaForeign(f"{name}-lock is missing; the replicator (gate serve) creates both files again")
    if os.path.exists(name) and not os.access(f"{name}-lock", os.W_OK):
        # On a read-only file system LMDB reads without a reader slot, so the writer would overwrite pages that are read.
        raise ReplicaForeign(
            f"{name}-lock is not writable: readers register in it, so mount the file system read-write"
        )
    try:
        env = lmdb.open(
            name,
            subdir=False,
            readonly=True,
            create=False,
            map_size=MAP_BYTES,
            max_readers=MAX_READERS,
            # Threads of one process share the environment; more idle transactions would pin slots.
            max_spare_txns=4,
            readahead=False,
        )
    except (FileNotFoundError, lmdb.NotFoundError):
        raise ReplicaMissing(f"no facts file at {name}") from None
    except lmdb.LockError:  # py-lmdb begins a transaction when it opens
        raise ReplicaForeign(_same_pid(name)) from None
    except lmdb.MemoryError:
        raise ReplicaForeign(
            f"{name} can't be mapped: this takes {MAP_BYTES >> 40} TiB of address space, but no memory; lift ulimit -v"
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
    # Checked after the transaction, because the environment is closed here.
    if layout != LAYOUT_VERSION:
        env.close()
        raise ReplicaForeign(f"{name} has another layout, {layout!r}; the replicator rebuilds it")
    return env


def _require_length(name: str, env: lmdb.Environment) -> None:
    """Reading a page past the end of the file would kill this process with SIGBUS."""
    pages = env.info()["last_pgno"] + 1
    if os.path.getsize(name) < pages * env.stat()["psize"]:
        raise lmdb.CorruptedError(f"it is cut short: fewer than its {pages} pages exist")


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
    # Takes this process's slot in the lock file now: a reader with the same process id is then refused, not the writer.
    try:
        with env.begin():
            return env
    except lmdb.LockError:
        env.close()
        raise ReplicaForeign(_same_pid(name)) from None


def _same_pid(name: str) -> str:
    """LMDB identifies readers by process id, for which it locks one byte. Two namespaces may have the same id."""
    return (
        f"{name} is in use by another process with this one's id, {os.getpid()}: containers that share a data directory "
        "must share their process ids too (shareProcessNamespace: true, --pid=container:NAME, pid: service:NAME)"
    )


def _reserve_lock_file(name: str) -> None:
    """Write the lock file in full. LMDB maps it sparse, and on a full disk the first touch of a hole kills a reader.

    Only if it does not exist: opening and closing it later would drop the locks that LMDB holds on it.
    """
    if os.path.exists(name):
        return
    try:
        with open(name, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(bytes(LOCK_FILE_BYTES))
    except FileExistsError:
        return  # a reader was faster
    except OSError as fault:
        Path(name).unlink(missing_ok=True)
        raise ReplicaForeign(f"{name} can't be written: {fault.strerror}") from None


class Closed:
    """Replaces the environment of a closed Reading. Any use raises `ReplicaError`, at no cost while a Reading is open."""

    def __init__(self, problem: str = "this Replica was closed") -> None:
        self._problem = problem

    def begin(self) -> lmdb.Transaction:
        """Raises `ReplicaError`."""
        raise ReplicaError(self._problem)
