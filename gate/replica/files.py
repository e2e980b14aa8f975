"""The Replica's directory: which facts file is current, replacing it by a newer one, deleting leftovers.

The name in `current` is replaced by a rename, so a reader sees the old name or the new one. A facts file may be deleted while
other processes have it mapped; they keep its pages until they close it.

A name is used once: a delayed deletion of one file must never hit another, and readers compare names. So a file's generation is
higher than all that exist here, that `current` names and that the caller has used; and a deletion checks the inode.

Any process on the node leaves its requests to the replicator here, as files. That needs no connection and no running
replicator: the next one to start finds them, and a running one looks a few times a second.

Called by the replicator (the only one that changes the facts files) and the loader; requests by `gate replica rebuild`, and by
readers that find an unreadable page. Readers use `layout.current_facts`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from gate.errors import ReplicaForeign, ReplicaFull
from gate.replica.layout import CURRENT_FILE, MAX_GENERATION, facts_name, generation_of

REBUILD_FILE = "rebuild"
DAMAGED_FILE = "damaged"
MAX_REPORT_BYTES = 1_000
MAX_REASON_BYTES = 500
# Required to begin a snapshot. Its final size is unknown in advance.
MIN_FREE_BYTES = 16 << 20

# Device and inode: identifies a file independent of its name.
Identity = tuple[int, int]


def identity_of(path: Path | str) -> Identity | None:
    """Return which file this name leads to, or None."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def make_current(path: Path) -> None:
    """Make `path` the facts file that readers open from now on. Raises `ReplicaFull` if the disk has no room for the name."""
    draft = path.with_name(f".{CURRENT_FILE}.{os.getpid()}")
    # Rename is atomic: a reader sees the old name or the new one, never half of one.
    try:
        draft.write_text(f"{path.name}\n")
        draft.replace(path.with_name(CURRENT_FILE))
    except OSError as fault:
        draft.unlink(missing_ok=True)
        raise ReplicaFull(f"{path.with_name(CURRENT_FILE)} can't be written: {fault.strerror}") from fault


def is_current(path: Path) -> bool:
    """Return whether readers that open the directory now get `path`."""
    try:
        return path.with_name(CURRENT_FILE).read_bytes().strip() == path.name.encode()
    except OSError:
        return False


def require_room(directory: Path, more_bytes: int = 0) -> None:
    """Raise `ReplicaFull` if the disk is nearly full: LMDB maps its lock file, and without room the process would die."""
    room = os.statvfs(directory)
    free_bytes = room.f_bavail * room.f_frsize
    least_bytes = MIN_FREE_BYTES + more_bytes
    if free_bytes < least_bytes:
        raise ReplicaFull(f"only {free_bytes:,} bytes are free in {directory}, at least {least_bytes:,} are needed")


def forget_current(directory: Path) -> None:
    """Leave no facts file current: better than one that can't be trusted."""
    _unlink(directory / CURRENT_FILE)


def last_generation(directory: Path) -> int:
    """Return the highest generation that exists here or that `current` names; 0 if no file exists."""
    try:
        named = (directory / CURRENT_FILE).read_text(errors="replace").strip()
    except OSError:
        named = ""
    # `current` may name a file that was deleted; its generation counts too.
    return max(map(_generation, (named, *(path.name for path in directory.glob("facts-*")))))


def next_facts(directory: Path, used: int = 0) -> Path:
    """Return the path of the next snapshot: its generation is higher than all here and all that the caller has `used`."""
    return directory / facts_name(max(used, last_generation(directory)) + 1)


def delete_facts(path: Path, identity: Identity | None = None) -> None:
    """Delete a facts file and its lock file. If `identity` is given, only if the name leads to that file or to none."""
    if identity is None or identity_of(path) in (identity, None):
        _unlink(path)
        _unlink(path.with_name(f"{path.name}-lock"))


def delete_leftovers(directory: Path, keep: Path | None) -> None:
    """Delete every facts file except `keep`, and the remains of an interrupted load."""
    # Scratch directories of an interrupted load.
    for path in directory.glob("facts-*.loading"):
        shutil.rmtree(path, ignore_errors=True)
    for path in directory.glob("facts-*.mdb"):
        if path != keep:
            delete_facts(path)


def damage_reported(directory: Path, name: str) -> str | None:
    """Return a reader's report that it could not read the facts file of this name. Reports of other files are deleted."""
    path = directory / DAMAGED_FILE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            report = file.read(MAX_REPORT_BYTES).decode(errors="replace")
    except OSError as fault:
        return f"its report can't be read: {fault.strerror}"
    of, _, reason = report.partition("\n")
    if of in (name, ""):  # a report without a name is just being written by a reader
        return reason.strip() or "a reader found an unreadable page"
    _unlink(path)
    return None


def forget_damage(directory: Path) -> None:
    """Delete the report: the reported file is no longer in use."""
    _unlink(directory / DAMAGED_FILE)


def rebuild_is_requested(directory: Path) -> bool:
    """Return whether a fresh snapshot was requested (`rebuild_requests.request_rebuild`)."""
    return (directory / REBUILD_FILE).is_file()


def rebuild_is_done(directory: Path) -> None:
    """Delete the request, which is fulfilled."""
    _unlink(directory / REBUILD_FILE)


def _generation(name: str) -> int:
    """Return the generation in a file name; 0 for any other name, and for one so high that no other could follow."""
    try:
        generation = generation_of(f"{name.partition('.')[0]}.mdb")
    except ReplicaForeign:
        return 0
    return generation if generation < MAX_GENERATION else 0


def _unlink(path: Path) -> None:
    """Delete a file if possible. A directory of that name, or a protected file, stays."""
    try:
        path.unlink(missing_ok=True)
    except OSError as fault:
        from structlog import get_logger  # late: a check by the command line imports this module and logs nothing

        get_logger().warning("a file of the Replica can't be deleted", file=str(path), problem=fault.strerror)


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
