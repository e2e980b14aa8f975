"""Gives room back: after much was written entry by entry, the facts file is copied in order and the copy is swapped in.

Keys that come in at random leave LMDB's pages half full, and a file never shrinks: an import of millions of entries takes twice
what a snapshot of the same facts takes. The copy is made by a thread, of one commit, while following goes on; then the
replicator lets it catch up with what was applied meanwhile and moves readers on, as after a snapshot. Redis is asked for
nothing but those Changes.

Begun only where nothing was to be applied for a while, seldom, and if it pays. Called by the replicator, on its loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from gate.clock import monotonic_ms, wall_ms
from gate.core.revision import Position
from gate.errors import ChangelogBroken, ReplicaForeign, ReplicaFull
from gate.replica import files
from gate.replica.changelog_checks import reached, slices
from gate.replica.layout import generation_of
from gate.replica.ports import ChangeSource
from gate.replica.writer import FactsFile

CALM_MS = 5_000
"""Without a Change: an import is over."""
AGAIN_MS = 600_000
"""After a copy, made or failed, until the next is thought of."""
LEAST_PAGES = 8_192
"""32 MB: below that there is nothing to gain."""
LEAST_NEW_SHARE = 0.25
"""Of the keys, how many came at random: from then on a copy is some tenth smaller, or much more."""

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
        self._ending = threading.Event()

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
            self._ending.set()
            await asyncio.wait([task])
            files.delete_facts(path)

    def _is_time(self) -> bool:
        now_ms = monotonic_ms()
        return now_ms >= self._not_before_ms and now_ms - self._calm_since_ms >= self._calm_ms

    def _pays(self, file: FactsFile) -> bool:
        if file.pages() < self._least_pages:
            return False
        came, keys = file.keys_since_packed()
        return came >= LEAST_NEW_SHARE * keys

    def _begin(self, file: FactsFile) -> None:
        path = files.next_facts(self._directory, generation_of(file.path.name))
        self._ending.clear()
        self._copy = (
            path,
            asyncio.create_task(asyncio.to_thread(file.copy_packed, path, lambda: not self._ending.is_set())),
        )


async def opened_in_step(
    path: Path, file: FactsFile, source: ChangeSource, tick: Callable[[], None], map_bytes: int
) -> FactsFile | None:
    """A finished copy, opened, once it has what `file` has; None, with the copy deleted, if it can't get that."""
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
    """Apply what a copy lacks; False if the Changelogs no longer have that. `tick` may raise, to end it."""
    try:
        while not reached(copy.positions, positions):
            tick()
            changes = await source.read(copy.positions, 1)
            if not changes:
                return False
            for portion in slices(changes):
                copy.apply(portion, wall_ms())
                await asyncio.sleep(0)
    except (ChangelogBroken, ReplicaFull) as fault:
        _log.info("the Replica was not compacted", problem=str(fault))
        return False
    return True
