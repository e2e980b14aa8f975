"""Standard input as lines, for a command that must not wait for them: a thread reads it, for any kind of file.

asyncio can wait for a pipe and a terminal, but not for a file or /dev/null; a thread reads them all. It reads the descriptor
itself, since a thread that is inside `sys.stdin` when the program ends makes Python abort. It reads at most one step ahead:
while no line is taken, further input stays in the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from itertools import chain

MAX_LINE_BYTES = 256 * 1024
"""A longer line is cut to this length, which is more than any message may have."""
_CHUNK_BYTES = 65_536


class StdinLines:
    """Lines without line ends; empty lines are left out. After the last line, each `take` returns None."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore()
        self._has_ended = False

    def start(self) -> None:
        """Start the thread; requires a running loop. The thread ends with the program."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), name="stdin", daemon=True).start()

    async def take(self) -> bytes | None:
        """The next line, when there is one."""
        if self._has_ended:
            return None
        line = await self._lines.get()
        self._room.release()
        self._has_ended = line is None
        return line

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        # The loop may have ended meanwhile. No coroutine is passed to it: Python warns about one that is never awaited.
        with contextlib.suppress(RuntimeError):
            for line in chain(_stdin(), [None]):
                self._room.acquire()
                loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _stdin() -> Iterator[bytes]:
    if sys.stdin is None:  # the parent process closed it, and its number may belong to another descriptor by now
        return
    begun = b""
    while chunk := _chunk():
        *whole, begun = (begun + chunk).split(b"\n")
        yield from (line[:MAX_LINE_BYTES] for line in whole if line.strip())
        begun = begun[: MAX_LINE_BYTES + 1]
    if begun.strip():
        yield begun


def _chunk() -> bytes:
    try:
        return os.read(0, _CHUNK_BYTES)
    except OSError:
        return b""
