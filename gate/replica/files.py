"""The Replica's directory: which facts file is current, putting a newer one in its place, clearing away what is left over.

The name in `current` is replaced by a rename, so that a reader sees the old name or the new one. A facts file may be deleted
while others have it mapped; they keep their pages until they let go.

Called by the replicator (the only one that changes anything here) and the loader; readers use `layout.current_facts`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gate.errors import ReplicaForeign, ReplicaFull
from gate.replica.layout import CURRENT_FILE, facts_name, generation_of

REBUILD_FILE = "rebuild"
MIN_FREE_BYTES = 16 << 20
"""To begin to load a snapshot; what it takes in the end, nobody knows before."""


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
    except FileNotFoundError:
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
    (directory / CURRENT_FILE).unlink(missing_ok=True)


def next_facts(directory: Path) -> Path:
    """Where to load the next snapshot: a generation above all that are here."""
    generations = [_generation(path) for path in directory.glob("facts-*")]
    return directory / facts_name(max(generations, default=0) + 1)


def delete_facts(path: Path) -> None:
    """Delete a facts file with its lock file."""
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}-lock").unlink(missing_ok=True)


def delete_leftovers(directory: Path, keep: Path | None) -> None:
    """Delete every facts file but `keep`, and what an interrupted load has left."""
    for path in directory.glob("facts-*.loading"):
        shutil.rmtree(path, ignore_errors=True)
    for path in directory.glob("facts-*.mdb"):
        if path != keep:
            delete_facts(path)


def rebuild_is_asked(directory: Path) -> bool:
    """Whether somebody asked for a fresh snapshot (`requests.ask_to_rebuild`)."""
    return (directory / REBUILD_FILE).exists()


def rebuild_is_done(directory: Path) -> None:
    """The request was taken up."""
    (directory / REBUILD_FILE).unlink(missing_ok=True)


def _generation(path: Path) -> int:
    try:
        return generation_of(f"{path.name.partition('.')[0]}.mdb")
    except ReplicaForeign:
        return 0
