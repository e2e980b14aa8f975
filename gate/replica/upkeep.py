"""Checks of the facts file in use: its names, writes by other programs, its checksum.

There are two kinds of findings. A damaged file raises `ReplicaForeign`: nothing in it can be trusted, so it is discarded and
loaded again. Any other finding that a fresh snapshot repairs is returned, and the facts are served until then.

While Redis is away no snapshot can be loaded. Then a file is discarded only for findings of this module, never for a reader's
report alone; a report starts a scrub. A file discarded then has no successor until Redis is back: its present readers continue,
with facts of unknown age, and new readers find none. Possibly wrong facts are worse than an error.

A scrub (`file_check.scrub`) runs repeatedly, at low priority, with pauses a hundred times its duration: it costs a hundredth of
a core, and finds damage sooner in smaller files.

Called by the replicator, a few times a second.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from gate.clock import monotonic_ms
from gate.errors import ReplicaForeign
from gate.replica import file_check, files
from gate.replica.layout import current_facts, generation_of
from gate.replica.status_page import StatusPage
from gate.replica.writer import FactsFile

# Interval of checks of names, length and newest commit: a few cheap system calls.
CHECK_PLACE_EVERY_MS = 500
CHECK_READERS_EVERY_MS = 5_000
# A reader that reports false damage, as one of another version may, must not cause permanent reloads.
MIN_REPORT_INTERVAL_MS = 30_000
SCRUB_PAUSE_FACTOR = 100
MIN_SCRUB_PAUSE_MS = 10_000
MAX_SCRUB_PAUSE_MS = 600_000
AFTER_GIVING_UP_MS = 30_000
# A start has more urgent work.
FIRST_SCRUB_AFTER_MS = 2_000

_log = structlog.get_logger()


class Upkeep:
    """One per replicator."""

    def __init__(self, directory: Path, status_page: StatusPage) -> None:
        self._directory = directory
        self._status_page = status_page
        self._place_checked_at_ms = 0
        self._readers_checked_at_ms = 0
        self._report_used_at_ms = -MIN_REPORT_INTERVAL_MS
        self._scrubbing: tuple[FactsFile, int, asyncio.Task[str | None]] | None = None
        self._scrub_at_ms = monotonic_ms() + FIRST_SCRUB_AFTER_MS

    def opened(self, map_bytes: int) -> FactsFile:
        """Open the file in use after a check in a separate process. Raises `ReplicaMissing`, `ReplicaForeign`."""
        path = current_facts(self._directory)
        problem = file_check.survives(path)
        if problem:
            raise ReplicaForeign(f"{path.name} is damaged: {problem}")
        file = FactsFile.open(path, map_bytes)
        if file.identity != self._status_page.facts:  # the stamp belongs to another file, which this one replaced
            self._status_page.put(fresh_at_ms=0)
        self._status_page.use(generation_of(path.name), file.identity)
        return file

    def reload_reason(self, file: FactsFile, *, is_cut_off: bool = False) -> tuple[str, str] | None:
        """Return why a fresh snapshot is needed, as a word and a sentence. Raises `ReplicaForeign` if the file is damaged."""
        now_ms = monotonic_ms()
        self._check_report(file, now_ms, is_cut_off)
        self._scrub(file, now_ms)
        if now_ms - self._readers_checked_at_ms >= CHECK_READERS_EVERY_MS:
            self._readers_checked_at_ms = now_ms
            file.check_readers()
        if now_ms - self._place_checked_at_ms >= CHECK_PLACE_EVERY_MS:
            self._place_checked_at_ms = now_ms
            self._check_status_page(file)
            if misplaced := self._misplaced(file):
                return misplaced
        if files.rebuild_is_requested(self._directory):
            return "asked", "a fresh snapshot was requested"
        return None

    async def aclose(self) -> None:
        """Cancel a scrub in progress."""
        if self._scrubbing is not None:
            scrub = self._scrubbing[2]
            self._scrubbing = None
            scrub.cancel()
            await asyncio.wait([scrub])

    def _misplaced(self, file: FactsFile) -> tuple[str, str] | None:
        """Detect that files were removed or replaced by others."""
        if not file.is_in_place:
            files.forget_current(self._directory)  # the name now belongs to another file
        elif problem := file.was_changed():
            raise _damaged(file, problem)
        elif files.is_current(file.path):
            return None
        return "misplaced", f"{file.path.name}, or the name that leads to it, was removed"

    def _check_status_page(self, file: FactsFile) -> None:
        self._status_page.name_facts(file.identity)  # again: an older page may have been copied over this one
        if not self._status_page.is_in_place:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._status_page.recreate()
            _log.warning("the status page was removed and is created again")

    def _check_report(self, file: FactsFile, now_ms: int, is_cut_off: bool) -> None:
        report = files.damage_reported(self._directory, file.path.name)
        if report is None:
            return
        if not is_cut_off and now_ms - self._report_used_at_ms >= MIN_REPORT_INTERVAL_MS:
            self._report_used_at_ms = now_ms
            raise _damaged(file, report)
        # A scrub decides whether the report is true.
        self._scrub_at_ms = 0

    def _scrub(self, file: FactsFile, now_ms: int) -> None:
        if self._scrubbing is None:
            if now_ms >= self._scrub_at_ms:
                self._scrubbing = file, now_ms, asyncio.create_task(file_check.scrubbed(file.path))
            return
        scrubbed, began_ms, scrub = self._scrubbing
        if not scrub.done():
            return
        # Cleared first, since a damaged file raises below.
        self._scrubbing = None
        try:
            problem = scrub.result()
        except TimeoutError:
            self._scrub_at_ms = now_ms + AFTER_GIVING_UP_MS
            return
        # The pause is proportional to the scrub, so its share of a core is the same for any file size.
        pause_ms = SCRUB_PAUSE_FACTOR * (now_ms - began_ms)
        self._scrub_at_ms = now_ms + min(max(pause_ms, MIN_SCRUB_PAUSE_MS), MAX_SCRUB_PAUSE_MS)
        # The result belongs to a file that was replaced meanwhile.
        if scrubbed is not file or not file.is_in_place:
            return
        if problem:
            raise _damaged(file, problem)
        files.forget_damage(
            self._directory
        )  # the file is sound; a reader that meets an unreadable page reports it again


def _damaged(file: FactsFile, problem: str) -> ReplicaForeign:
    return ReplicaForeign(f"{file.path.name} is damaged: {problem}")
