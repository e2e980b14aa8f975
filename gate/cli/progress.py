"""How far a long command is: a bar where a person watches, a plain line now and then where a log does, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from gate.cli.output import console, warn
from gate.clock import monotonic_ms

# Often enough to show that the command is running, rare enough for a log.
PLAIN_EVERY_MS = 5_000


class Progress(Protocol):
    """Receives the progress of a command, from time to time."""

    def at(self, read_bytes: int, entries: int) -> None:
        """Report the numbers of bytes read and of entries written since the beginning."""
        ...


class _Silent:
    def at(self, read_bytes: int, entries: int) -> None:
        """Nothing."""


class _Plain:
    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._started_ms = self._said_ms = monotonic_ms()

    def at(self, read_bytes: int, entries: int) -> None:
        """Print a line if the last one is at least `PLAIN_EVERY_MS` old."""
        now_ms = monotonic_ms()
        if now_ms - self._said_ms < PLAIN_EVERY_MS:
            return
        self._said_ms = now_ms
        share = f"{100 * read_bytes // self._total_bytes} %, " if self._total_bytes else ""
        warn(f"gate: {share}{entries:,} entries, {rate(entries, now_ms - self._started_ms):,}/s")


@contextmanager
def shown_progress(total_bytes: int, *, silent: bool = False) -> Iterator[Progress]:
    """A bar if stderr is a terminal, else plain lines; nothing if `silent`. `total_bytes` 0 means that it is not known."""
    if silent:
        yield _Silent()
    # stderr, since stdout may be the export or the backup itself.
    elif sys.stderr.isatty():
        with _bar(total_bytes) as bar:
            yield bar
    else:
        yield _Plain(total_bytes)


@contextmanager
def _bar(total_bytes: int) -> Iterator[Progress]:
    from rich.progress import BarColumn, DownloadColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[entries]:,} entries, {task.fields[a_second]:,}/s"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console(stderr=True), transient=True) as progress:
        # None: the bar moves without an end, as for a pipe.
        task = progress.add_task("", total=total_bytes or None, entries=0, a_second=0)
        started_ms = monotonic_ms()

        class Bar:
            def at(self, read_bytes: int, entries: int) -> None:
                """Moves the bar."""
                elapsed_ms = monotonic_ms() - started_ms
                progress.update(task, completed=read_bytes, entries=entries, a_second=rate(entries, elapsed_ms))

        yield Bar()


def rate(count: int, elapsed_ms: int) -> int:
    """A second."""
    # A short run may take less than a millisecond.
    return count * 1_000 // max(elapsed_ms, 1)
