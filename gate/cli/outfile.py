"""A file that a command writes: what exists keeps its kind, its mode, its owner and its links.

    a path that is free                   made with mode 0600, complete or not at all
    a regular file                        replaced in one step, through symbolic links, with the mode and owner it had
    one with more names (hard links),
    or whose directory or owner forbids   written in place, once everything to write is known
    /dev/stdout, /dev/fd/N                the descriptor itself, where it stands (`>>` appends)
    a FIFO, a terminal, /dev/null, ...    opened and written; a FIFO waits for its reader

A refusal of the system is an `OSError` that names the path as it was given. Called by `gate export` and `gate backup`.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from gate.errors import InvalidInput

STDOUT = "-"
# Mode of a new file: the lists of an App are private to it.
PRIVATE_MODE = 0o600
# The number of symbolic links that Linux follows.
MAX_LINKS = 40

_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|\d+))/fd/(\d+)")
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


@contextmanager
def opened_for_writing(name: str, *, packs: bool = True) -> Iterator[IO[bytes]]:
    """`name` to write to, `-` for stdout; compressed where the name ends in .gz, if `packs`.

    After an exception inside, a regular file is as it was.
    """
    with _opened(name) as raw:
        if not (packs and name.endswith(".gz")):
            yield raw
            return
        with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6) as packed:
            yield cast("IO[bytes]", packed)


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if not name:
        raise InvalidInput("FILE", "is empty: name a file, or - for stdout")
    if name == STDOUT:
        yield sys.stdout.buffer
        # Here, where the error has a name; at exit Python would only print it.
        sys.stdout.buffer.flush()
        return
    try:
        descriptor = _descriptor_named(name)
        # Looked at once: a file that appears afterwards is replaced, never appended to.
        known = None if descriptor is not None else _known(name)
        if descriptor is not None:
            with os.fdopen(os.dup(descriptor), "wb") as stream:
                yield stream
        elif known is None or stat.S_ISREG(known.st_mode):
            with _replacing(name, Path(os.path.realpath(name)), known) as stream:
                yield stream
        else:
            # Neither O_CREAT nor O_TRUNC: it must be what was looked at, and a device has no length.
            with os.fdopen(os.open(name, os.O_WRONLY), "wb") as stream:
                yield stream
    except OSError as fault:
        if isinstance(fault, BrokenPipeError) or fault.filename not in (None, os.path.realpath(name)):
            raise
        raise OSError(fault.errno, fault.strerror or str(fault), name) from None


def _known(name: str) -> os.stat_result | None:
    """What exists under the name, links followed; `InvalidInput` for a directory."""
    try:
        known = os.stat(name)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(known.st_mode):
        raise InvalidInput(name, "is a directory: name a file")
    return known


def _descriptor_named(name: str) -> int | None:
    """The open descriptor that a path such as /dev/stdout means, also through symbolic links."""
    path = os.path.abspath(name)
    for _ in range(MAX_LINKS):
        if path in _STREAMS:
            return _STREAMS[path]
        if match := _DESCRIPTOR.fullmatch(path):
            return int(match[1])
        if not os.path.islink(path):
            return None
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
    return None


@contextmanager
def _replacing(name: str, path: Path, known: os.stat_result | None) -> Iterator[IO[bytes]]:
    if known is not None:
        os.close(os.open(path, os.O_WRONLY))  # a file that may not be written is not replaced either
    # In the same directory: a rename is atomic within a file system only.
    draft = path.with_name(f".gate-{os.getpid()}.draft")
    stream = _draft(draft, known)
    if stream is None:
        with tempfile.TemporaryFile() as spool:
            yield cast("IO[bytes]", spool)
            spool.seek(0)
            with path.open("wb") as there:
                shutil.copyfileobj(spool, there)
        return
    try:
        with stream:
            yield stream
            stream.flush()
            # Before the rename: else a crash may leave the new name with an empty file.
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _without_name(fault: OSError) -> OSError:
    """The error without the name of the draft, which the user did not give."""
    return OSError(fault.errno, fault.strerror or str(fault))


def _draft(draft: Path, known: os.stat_result | None) -> IO[bytes] | None:
    """A new file to take the place of the known one; None where it could not have the same links, owner and mode."""
    # A rename would leave the other names with the old content.
    if known is not None and known.st_nlink > 1:
        return None
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    except PermissionError as fault:
        if known is None:
            raise _without_name(fault) from None
        return None
    except OSError as fault:
        raise _without_name(fault) from None
    try:
        made = os.fstat(descriptor)
        if known is not None and (made.st_uid, made.st_gid) != (known.st_uid, known.st_gid):
            # Owner before mode: a change of owner clears set-uid bits.
            os.fchown(descriptor, known.st_uid, known.st_gid)
        if known is not None:
            os.fchmod(descriptor, stat.S_IMODE(known.st_mode))
    except PermissionError:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
        return None
    return os.fdopen(descriptor, "wb")
