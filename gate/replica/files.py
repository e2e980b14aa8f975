"""The Replica's directory: which facts file is current, putting a newer one in its place, clearing away what is left over.

The name in `current` is replaced by a rename, so that a reader sees the old name or the new one. A facts file may be deleted
while others have it mapped; they keep their pages until they let go.

A name is used once: a deletion that was planned for one file must never meet another, and readers compare names. So a file's
generation lies above all that are here, that `current` names and that the caller has used; and a deletion names its inode.

Called by the replicator (the only one that changes anything here) and the loader; readers use `layout.current_facts`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gate.errors import ReplicaForeign, ReplicaFull
from gate.replica.layout import CURRENT_FILE, MAX_GENERATION, facts_name, generation_of

REBUILD_FILE = "rebuild"
DAMAGED_FILE = "damaged"
MAX_REPORT_BYTES = 1_000
MIN_FREE_BYTES = 16 << 20
"""To begin to load a snapshot; what it takes in the end, nobody knows before."""

Identity = tuple[int, int]
"""Device and inode: which file it is, whatever its name."""


def identity_of(path: Path | str) -> Identity | None:
    """Which file this name leads to; None if it leads nowhere."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def make_current(path: Path) -> None:
    """Let `path` be the facts file that readers open from now on. `ReplicaFull` if even that has no room."""
    draft = path.with_name(f".{CURRENT_FILE}.{os.getpid()}")
    try:
        draft.write_text(f"{path.name}\n")
        draft.replace(path.with_name(CURRENT_FILE))
    except OSError as fault:
        draft.unlink(missing_ok=True)
        raise ReplicaFull(f"{path.with_name(CURRENT_FILE)} can't be written: {fault.strerror}") from fault


def is_current(path: Path) -> bool:
    """Whether readers that open the directory now are led to `path`."""
    try:
        return path.with_name(CURRENT_FILE).read_bytes().strip() == path.name.encode()
    except OSError:
        return False


def require_room(directory: Path, more_bytes: int = 0) -> None:
    """`ReplicaFull` unless there is some room: LMDB maps its lock file, and a disk without room would end the process."""
    room = os.statvfs(directory)
    free_bytes = room.f_bavail * room.f_frsize
    least_bytes = MIN_FREE_BYTES + more_bytes
    if free_bytes < least_bytes:
        raise ReplicaFull(f"only {free_bytes:,} bytes are free in {directory}, {least_bytes:,} are the least")


def forget_current(directory: Path) -> None:
    """Let no facts file be current: rather none than one that can't be trusted."""
    _unlink(directory / CURRENT_FILE)


def last_generation(directory: Path) -> int:
    """The highest generation that is here or that `current` names; 0 if there is none."""
    try:
        named = (directory / CURRENT_FILE).read_text(errors="replace").strip()
    except OSError:
        named = ""
    return max(map(_generation, (named, *(path.name for path in directory.glob("facts-*")))))


def next_facts(directory: Path, used: int = 0) -> Path:
    """Where to load the next snapshot: a generation above all that are here and all that the caller has `used`."""
    return directory / facts_name(max(used, last_generation(directory)) + 1)


def delete_facts(path: Path, identity: Identity | None = None) -> None:
    """Delete a facts file with its lock file; if `identity` is given, only while the name leads to that file or nowhere."""
    if identity is None or identity_of(path) in (identity, None):
        _unlink(path)
        _unlink(path.with_name(f"{path.name}-lock"))


def delete_leftovers(directory: Path, keep: Path | None) -> None:
    """Delete every facts file but `keep`, and what an interrupted load has left."""
    for path in directory.glob("facts-*.loading"):
        shutil.rmtree(path, ignore_errors=True)
    for path in directory.glob("facts-*.mdb"):
        if path != keep:
            delete_facts(path)


def damage_reported(directory: Path, name: str) -> str | None:
    """What a reader said of the facts file of this name, if one could not read it; reports of other files are dropped."""
    path = directory / DAMAGED_FILE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            said = file.read(MAX_REPORT_BYTES).decode(errors="replace")
    except OSError as fault:
        return f"its report can't be read: {fault.strerror}"
    of, _, reason = said.partition("\n")
    if of in (name, ""):  # one without a name is being written, by someone who met it just now
        return reason.strip() or "a reader met a page that can't be read"
    _unlink(path)
    return None


def forget_damage(directory: Path) -> None:
    """The file that was reported is not used any more."""
    _unlink(directory / DAMAGED_FILE)


def rebuild_is_asked(directory: Path) -> bool:
    """Whether somebody asked for a fresh snapshot (`rebuild_requests.ask_to_rebuild`)."""
    return (directory / REBUILD_FILE).is_file()


def rebuild_is_done(directory: Path) -> None:
    """The request was taken up."""
    _unlink(directory / REBUILD_FILE)


def _generation(name: str) -> int:
    """Of a facts file or what belongs to one; 0 for any other name, and for one so high that another could not follow."""
    try:
        generation = generation_of(f"{name.partition('.')[0]}.mdb")
    except ReplicaForeign:
        return 0
    return generation if generation < MAX_GENERATION else 0


def _unlink(path: Path) -> None:
    """What can't be deleted stays: a directory of that name, or a file that somebody protected."""
    try:
        path.unlink(missing_ok=True)
    except OSError as fault:
        from structlog import get_logger  # late: a check by the command line imports this module, and logs nothing

        get_logger().warning("a file of the Replica can't be deleted", file=str(path), problem=fault.strerror)
