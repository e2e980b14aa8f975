"""Checks a facts file in a separate process, because a damaged file can kill the process that reads it.

LMDB trusts its file: a page that is missing or overwritten may end the reader with SIGBUS, SIGSEGV or SIGABRT, which the
process can't catch. So a child reads the file, and its exit status shows whether the file is sound. There are two checks:

- `look`, before the replicator opens a file that it did not just write: the page count against the file's length first, then
  every page of the tree for a file of moderate size, else a sample of keys. Structure only: some 150 ms for 5 M entries.
- `scrub`, in the background: every key is looked up from the root, and all keys with their values must add up to the checksum
  that the writer maintains (`layout.META_CHECKSUM`). This finds lost, changed and unreachable facts. 3 s for 5 M entries.

Called by the replicator, `upkeep`, `verify` and `gate doctor`. This file is also the child's program, so it imports nothing
else of this project.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import cast
from zlib import crc32

import lmdb

PROBE_TIMEOUT_S = 10
# Up to this size every page is read: some 150 ms if 5 M entries are in the page cache.
WALK_MAX_BYTES = 1 << 30
SAMPLES = 256
# On a busy core a scrub gets a tenth of the time of others, so it still ends: it pins the pages of its commit.
NICENESS = 10
MAX_GROWN_PAGES = 8_192
# Permitted growth of the file while a scrub pins its commit, in pages or as a share. Past both the scrub is given up.
MAX_GROWN_SHARE = 0.25
# Exit status of a scrub that was given up.
GIVEN_UP = 3
# Prefix of the problem of a file that is readable but does not hold what was written.
DOES_NOT_ADD_UP = "its facts do not add up"
# Minimum size of a file. LMDB's message for a shorter one is incomprehensible.
_META_BYTES = 2 * 4_096
_AT_ONCE = 10_000
_MAP_BYTES = 1 << 40
_MAX_READERS = 1_024
CHECKSUM = b"Mchecksum"
# Signals by which damage ends a reader. Any other signal has another cause, such as a lack of memory.
_DEADLY = frozenset({signal.SIGABRT, signal.SIGBUS, signal.SIGSEGV, signal.SIGILL, signal.SIGFPE})


def survives(path: Path) -> str | None:
    """Return None if a child ran `look` on the file and survived, else what happened to it."""
    return _ran("look", path)


def adds_up(path: Path) -> str | None:
    """Return None if a child scrubbed the file and found it sound, or ran out of time; else the problem."""
    return _ran("scrub", path)


async def scrubbed(path: Path, python: str = sys.executable) -> str | None:
    """As `adds_up`, on the event loop and without a deadline. Raises `TimeoutError` if the file grew too much meanwhile."""
    child = await asyncio.create_subprocess_exec(
        *_command("scrub", path, python), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, errors = await child.communicate()
    except BaseException:
        # The child may have ended by itself.
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        raise
    assert child.returncode is not None
    if child.returncode == GIVEN_UP:
        raise TimeoutError
    return _problem(child.returncode, errors)


def _ran(what: str, path: Path) -> str | None:
    try:
        child = subprocess.run(
            _command(what, path, sys.executable), capture_output=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None  # slow is not damaged: a disk under load, a file far larger than memory
    return None if child.returncode == GIVEN_UP else _problem(child.returncode, child.stderr)


def _command(what: str, path: Path, python: str) -> list[str]:
    return [python, "-I", __file__, what, str(path)]


def _problem(returncode: int, errors: bytes) -> str | None:
    text = errors.decode(errors="replace").strip()
    if returncode >= 0:
        return (text or "unreadable") if returncode else None
    # e.g. SIGKILL by the OOM killer: this is no evidence of damage.
    if -returncode not in _DEADLY:
        return None
    return f"reading it ended a process with signal {-returncode}" + (f": {text}" if text else "")


def look(name: str) -> str | None:
    """Return the problem with the file's structure, if this process survives reading it."""
    if empty := _without_meta_pages(name):
        return empty
    with lmdb.open(name, subdir=False, readonly=True, lock=False, create=False, map_size=_MAP_BYTES) as env:
        if short := _cut_short(name, env):
            return short
        if os.path.getsize(name) <= WALK_MAX_BYTES:
            # A compacting copy visits every page of the tree in C; the output is discarded.
            with open(os.devnull, "wb") as nowhere:
                env.copyfd(nowhere.fileno(), compact=True)
        _sample(env)
    return None


def scrub(name: str) -> str | None:
    """Return the problem with the file's facts, if this process survives. Others may read and write meanwhile."""
    if empty := _without_meta_pages(name):
        return empty
    parent = os.getppid()
    # Only in the child, so the replicator keeps its priority.
    os.nice(NICENESS)
    with lmdb.open(
        name, subdir=False, readonly=True, create=False, map_size=_MAP_BYTES, max_readers=_MAX_READERS, readahead=False
    ) as env:
        if short := _cut_short(name, env):
            return short
        grown_to = _may_grow_to(env)
        with env.begin() as txn:
            expected, entries = txn.get(CHECKSUM), txn.stat()["entries"]
            seen = checksum = 0
            for keys in _all_keys(txn):
                # The parent is gone (ours is then another), or the pinned commit makes the file grow.
                if os.getppid() != parent or env.info()["last_pgno"] > grown_to:
                    sys.exit(GIVEN_UP)
                values = list(map(txn.get, keys))
                if None in values:
                    return f"the key {keys[values.index(None)]!r} exists and can't be found"
                seen += len(keys)
                checksum += sum(map(crc32, cast("list[bytes]", values), map(crc32, keys)))
            if expected is None:
                return "it has no checksum"
            # The checksum does not include itself.
            checksum -= crc32(expected, crc32(CHECKSUM))
            if seen != entries or (checksum % (1 << 64)).to_bytes(8, "big") != expected:
                return f"{DOES_NOT_ADD_UP} to its checksum ({seen} keys were found, {entries} counted)"
    return None


def _without_meta_pages(name: str) -> str | None:
    size = os.path.getsize(name)
    return f"the file is cut short: {size} bytes" if size < _META_BYTES else None


def _cut_short(name: str, env: lmdb.Environment) -> str | None:
    size, pages, page_bytes = os.path.getsize(name), env.info()["last_pgno"] + 1, env.stat()["psize"]
    if pages * page_bytes <= size:
        return None
    return f"the file is cut short: {size} bytes, its {pages} pages need {pages * page_bytes}"


def _may_grow_to(env: lmdb.Environment) -> int:
    pages = env.info()["last_pgno"]
    return pages + max(MAX_GROWN_PAGES, int(pages * MAX_GROWN_SHARE))


def _all_keys(txn: lmdb.Transaction) -> Iterator[list[bytes]]:
    """Yield every key in order, as the leaves hold them. The caller looks each up from the root."""
    cursor = txn.cursor()
    keys = cast("Iterator[bytes]", cursor.iternext(values=False) if cursor.first() else iter(()))
    while batch := list(islice(keys, _AT_ONCE)):
        yield batch


def _sample(env: lmdb.Environment) -> None:
    with env.begin() as txn:
        cursor = txn.cursor()
        for step in range(SAMPLES):
            # Lists are numbered from 1; the fourth power samples low numbers more densely.
            lists, users = b"L" + (step**4).to_bytes(4, "big"), b"U" + bytes((0, 0, step % 4, step))
            for start in (b"", b"A", lists, b"P", users):
                if cursor.set_range(start) if start else cursor.first():
                    cursor.item()


def main() -> int:
    """Run as the child: exit status 1 and one line on stderr if the file is damaged."""
    # A core dump of a mapped file would be as large as the file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    what, name = sys.argv[1:]
    try:
        problem = scrub(name) if what == "scrub" else look(name)
    except (lmdb.Error, OSError) as fault:
        problem = str(fault)
    if problem:
        sys.stderr.write(problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
