"""A look at a facts file from a process of its own, because a damaged one can kill whoever looks.

LMDB trusts its file: a page that is cut off or overwritten may end the reader with SIGBUS or SIGSEGV, which nothing in that
process can catch. So before the replicator opens a file that it did not just write, a child reads it, and the child's end
says whether the file can be opened: the page count against the file's length first, then every page of the tree for a file
of moderate size, else a sample of keys.

`survives` is called by the replicator. The file is also the child's program, so it imports nothing of this project.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lmdb

PROBE_TIMEOUT_S = 10
WALK_MAX_BYTES = 1 << 30
"""Up to this size every page is looked at: some 150 ms where 5 M entries are in the page cache."""
SAMPLES = 256
_MAP_BYTES = 1 << 40


def survives(path: Path) -> str | None:
    """None if a child read the file and lived; otherwise what happened to it."""
    try:
        child = subprocess.run(
            [sys.executable, "-I", __file__, str(path)], capture_output=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None  # slow is not damaged: a disk under load, a file far larger than memory
    if child.returncode < 0:
        return f"reading it ended a process with signal {-child.returncode}"
    return (child.stderr.decode(errors="replace").strip() or "unreadable") if child.returncode else None


def look(name: str) -> str | None:
    """What is wrong with the file, if this process lives to tell."""
    size = os.path.getsize(name)
    with lmdb.open(name, subdir=False, readonly=True, lock=False, create=False, map_size=_MAP_BYTES) as env:
        pages, page_bytes = env.info()["last_pgno"] + 1, env.stat()["psize"]
        if pages * page_bytes > size:
            return f"the file is cut short: {size} bytes, its {pages} pages need {pages * page_bytes}"
        if size <= WALK_MAX_BYTES:
            with open(os.devnull, "wb") as nowhere:
                env.copyfd(nowhere.fileno(), compact=True)
        _sample(env)
    return None


def _sample(env: lmdb.Environment) -> None:
    with env.begin() as txn:
        cursor = txn.cursor()
        for step in range(SAMPLES):
            # Lists are numbered from 1, so the samples lie closer together the smaller the numbers.
            lists, users = b"L" + (step**4).to_bytes(4, "big"), b"U" + bytes((0, 0, step % 4, step))
            for start in (b"", b"A", lists, b"P", users):
                if cursor.set_range(start) if start else cursor.first():
                    cursor.item()


def main() -> int:
    """The child: exit status 1 with one line on stderr if the file is not fit to be opened."""
    try:
        problem = look(sys.argv[1])
    except (lmdb.Error, OSError) as fault:
        problem = str(fault)
    if problem:
        sys.stderr.write(problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
