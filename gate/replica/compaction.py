"""Compaction: after many scattered writes, the facts file is copied in key order and replaced by the copy.

Keys that arrive in random order leave LMDB's pages half full, and a file never shrinks: after an import of millions of entries
it is twice as large as after a snapshot of the same facts. A thread copies one commit while following continues. Then the
replicator applies the Changes since then to the copy and moves readers to it, as after a snapshot. Redis only has to deliver
those Changes.

A copy starts only after a quiet period, rarely, and if it is worthwhile. Called by the replicator, on its loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from gate.clock import monotonic_ms, wall_ms
from gate.core.changes import slices
from gate.core.revision import Position
from gate.errors import ChangelogBroken, ReplicaForeign, ReplicaFull
from gate.replica import files
from gate.replica.changelog_checks import reached
from gate.replica.layout import generation_of
from gate.replica.ports import ChangeSource
from gate.replica.writer import FactsFile

# Without a Change for this long, an import is over.
CALM_MS = 5_000
# From one copy, successful or not, to the next.
AGAIN_MS = 600_000
# 32 MB: a smaller file is not worth a copy.
LEAST_PAGES = 8_192
# Share of keys that arrived in random order: from here on a copy is at least a tenth smaller.
LEAST_NEW_SHARE = 0.25

_log = structlog.get_logger()


class Compaction:
    """One per replicator; at most one copy at a time."""

    def __init__(self, directory: Path, calm_ms: int = CALM_MS, least_pages: int = LEAST_PAGES) -> None:
        self._directory = directory
        self._calm_ms = calm_ms
        self._least_pages = least_pages
        self._calm_since_ms = monotonic_ms()
        self.not_before_ms = 0
        self.copy: tuple[Path, asyncio.Task[None]] | None = None
        self._ending = threading.Event()

    def note_changes(self) -> None:
        """Record that Changes were applied."""
        self._calm_since_ms = monotonic_ms()

    def finished_copy(self, file: FactsFile) -> Path | None:
        """Return a finished copy, once. Starts one if it is worthwhile."""
        if self.copy is None:
            if self._is_time() and self._pays(file):
                self._begin(file)
            return None
        path, task = self.copy
        if not task.done():
            return None
        self.copy = None
        # Also after a failure: a full disk would fail again at once.
        self.not_before_ms = monotonic_ms() + AGAIN_MS
        failure = task.exception()
        if failure is None:
            return path
        files.delete_facts(path)
        # A full disk is normal here; any other failure is a bug or damage.
        if not isinstance(failure, ReplicaFull):
            raise failure
        _log.info("the Replica was not compacted", problem=str(failure))
        return None

    async def aclose(self) -> None:
        """Wait for a copy in progress and delete it: its source is about to be closed."""
        if self.copy is not None:
            path, task = self.copy
            self.copy = None
            # A thread can't be cancelled; the copy checks this event between batches.
            self._ending.set()
            await asyncio.wait([task])
            files.delete_facts(path)

    def _is_time(self) -> bool:
        now_ms = monotonic_ms()
        return now_ms >= self.not_before_ms and now_ms - self._calm_since_ms >= self._calm_ms

    def _pays(self, file: FactsFile) -> bool:
        if file.pages() < self._least_pages:
            return False
        came, keys = file.keys_since_packed()
        return came >= LEAST_NEW_SHARE * keys

    def _begin(self, file: FactsFile) -> None:
        path = files.next_facts(self._directory, generation_of(file.path.name))
        self._ending.clear()
        self.copy = (
            path,
            asyncio.create_task(asyncio.to_thread(file.copy_packed, path, lambda: not self._ending.is_set())),
        )


async def opened_in_step(
    path: Path, file: FactsFile, source: ChangeSource, tick: Callable[[], None], map_bytes: int
) -> FactsFile | None:
    """Open a finished copy and bring it to the Positions of `file`. Returns None, with the copy deleted, if that fails."""
    try:
        copy = FactsFile.open(path, map_bytes)
    except ReplicaForeign as fault:
        _log.warning("a compacted copy can't be read", problem=str(fault))
        files.delete_facts(path)
        return None
    has_all = False
    try:
        has_all = await caught_up(copy, file.positions, source, tick)
    finally:
        if not has_all:
            copy.close()
            files.delete_facts(path)
    return copy if has_all else None


async def caught_up(
    copy: FactsFile, positions: Sequence[Position], source: ChangeSource, tick: Callable[[], None]
) -> bool:
    """Apply the Changes that a copy lacks. Returns False if the Changelogs no longer hold them. `tick` may raise to stop."""
    try:
        while not reached(copy.positions, positions):
            tick()
            changes = await source.read(copy.positions, 1)
            # The Changelogs were trimmed past the copy's Positions.
            if not changes:
                return False
            for portion in slices(changes):
                copy.apply(portion, wall_ms())
                await asyncio.sleep(0)
    except (ChangelogBroken, ReplicaFull) as fault:
        _log.info("the Replica was not compacted", problem=str(fault))
        return False
    return True
