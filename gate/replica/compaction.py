"""Gives room back: after much was written entry by entry, the facts file is copied without its free pages and swapped.

LMDB keeps the pages that its last commits replaced, and a file never shrinks; an import of millions of entries leaves a quarter
of it or more to them. The copy is made by a thread, of one commit, while following goes on; then the replicator lets it catch
up with what was applied meanwhile and moves readers on, as after a snapshot. Redis is asked for nothing but those Changes.

Begun only where nothing was to be applied for a while, seldom, and if it pays. Called by the replicator, on its loop.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from gate.clock import monotonic_ms
from gate.errors import ReplicaFull
from gate.replica import files
from gate.replica.writer import FactsFile

CALM_MS = 5_000
"""Without a Change: an import is over."""
AGAIN_MS = 600_000
"""After a copy, made or failed, until the next is thought of."""
LEAST_PAGES = 8_192
"""32 MB: below that there is nothing to gain."""
LEAST_FREE_SHARE = 0.1

_log = structlog.get_logger()


class Compaction:
    """One a replicator; at most one copy at a time."""

    def __init__(self, directory: Path, calm_ms: int = CALM_MS, least_pages: int = LEAST_PAGES) -> None:
        self._directory = directory
        self._calm_ms = calm_ms
        self._least_pages = least_pages
        self._calm_since_ms = monotonic_ms()
        self._not_before_ms = 0
        self._copy: tuple[Path, asyncio.Task[None]] | None = None

    def note_changes(self) -> None:
        """Something was applied."""
        self._calm_since_ms = monotonic_ms()

    def made(self, file: FactsFile) -> Path | None:
        """A finished copy to move to, once; begins one where that pays."""
        if self._copy is None:
            if self._is_time() and self._pays(file):
                self._begin(file)
            return None
        path, task = self._copy
        if not task.done():
            return None
        self._copy = None
        self._not_before_ms = monotonic_ms() + AGAIN_MS
        failure = task.exception()
        if failure is None:
            return path
        files.delete_facts(path)
        if not isinstance(failure, ReplicaFull):
            raise failure
        _log.info("the Replica was not compacted", problem=str(failure))
        return None

    async def aclose(self) -> None:
        """Wait for a copy under way, and delete it: its source is about to be closed."""
        if self._copy is not None:
            path, task = self._copy
            self._copy = None
            await asyncio.wait([task])
            files.delete_facts(path)

    def _is_time(self) -> bool:
        now_ms = monotonic_ms()
        return now_ms >= self._not_before_ms and now_ms - self._calm_since_ms >= self._calm_ms

    def _pays(self, file: FactsFile) -> bool:
        used, total = file.pages()
        return total >= self._least_pages and total - used >= LEAST_FREE_SHARE * total

    def _begin(self, file: FactsFile) -> None:
        path = files.next_facts(self._directory)
        self._copy = path, asyncio.create_task(asyncio.to_thread(file.copy_to, path))
