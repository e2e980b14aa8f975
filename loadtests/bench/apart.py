"""Processes of the load client, each with one pipe to the process that started it.

Each leads a session, which the kernel's scheduler serves as a group of its own where it groups by session (autogroup), and has
a nice level: in production clients are other machines, and here they share the server's cores.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

CLIENTS_NICE = 10
END_WITHIN_S = 30.0
END = "end"

Work = Callable[..., None]
"""Gets the pipe first, then the arguments of `Apart`; returns when it receives `END`."""


class Apart:
    """Use as a context: leaving it ends the process."""

    def __init__(self, work: Work, *given: Any, nice: int) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._line, theirs = spawning.Pipe()
        self._process = spawning.Process(target=_run, args=(nice, work, theirs, *given), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Apart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(BrokenPipeError):  # it ended by itself, and printed the reason
            self._line.send(END)
        self._process.join(END_WITHIN_S)

    def tell(self, order: Any) -> None:
        self._line.send(order)

    def hear(self) -> Any:
        """Its next message. `EOFError` if it has ended."""
        return self._line.recv()

    def ask(self, order: Any) -> Any:
        self.tell(order)
        return self.hear()


def _run(nice: int, work: Work, line: Connection, *given: Any) -> None:
    os.setsid()
    os.nice(nice)
    group = Path("/proc/self/autogroup")
    if nice and group.exists():  # between sessions, the group's level is the one that counts
        group.write_text(str(nice))
    work(line, *given)
