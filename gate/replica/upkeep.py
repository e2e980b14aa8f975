"""Looks after the facts file in use: are its names in place, did something else write to it, do its facts still add up?

What is found is one of two things. A file that is damaged raises `ReplicaForeign`: nothing in it can be trusted, so it is left
and loaded again. Anything else that a fresh snapshot mends is returned, and the facts are served until then.

While Redis is away nothing can be loaded, so a file is left only for what is found here, never on the word of a reader alone:
its report has the file scrubbed. A file that is left then has no successor until Redis is back: those who have it open go on,
with facts of unknown age, and no one else finds any. Facts that may be wrong anywhere are worse than an error.

A scrub (`file_check.scrub`) runs all the time, at low priority, with pauses a hundred times as long as itself: it costs a
hundredth of a core, and finds damage the sooner the smaller the file is.

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

CHECK_PLACE_EVERY_MS = 500
"""How often to look at names, length and newest commit: some small looks at the file system."""
CHECK_READERS_EVERY_MS = 5_000
REPORTS_HEEDED_EVERY_MS = 30_000
"""A reader that reports damage which isn't there, as one of another version may, can't have snapshots loaded all the time."""
SCRUB_PAUSE_FACTOR = 100
MIN_SCRUB_PAUSE_MS = 10_000
MAX_SCRUB_PAUSE_MS = 600_000
AFTER_GIVING_UP_MS = 30_000
FIRST_SCRUB_AFTER_MS = 2_000
"""A start has better to do."""

_log = structlog.get_logger()


class Upkeep:
    """One a replicator."""

    def __init__(self, directory: Path, status_page: StatusPage) -> None:
        self._directory = directory
        self._status_page = status_page
        self._place_checked_at_ms = 0
        self._readers_checked_at_ms = 0
        self._report_heeded_at_ms = -REPORTS_HEEDED_EVERY_MS
        self._scrubbing: tuple[FactsFile, int, asyncio.Task[str | None]] | None = None
        self._scrub_at_ms = monotonic_ms() + FIRST_SCRUB_AFTER_MS

    def opened(self, map_bytes: int) -> FactsFile:
        """The file in use, after a look at it in a process of its own. `ReplicaMissing`, `ReplicaForeign`."""
        path = current_facts(self._directory)
        problem = file_check.survives(path)
        if problem:
            raise ReplicaForeign(f"{path.name} is damaged: {problem}")
        file = FactsFile.open(path, map_bytes)
        if file.identity != self._status_page.facts:  # the stamp is of another file, which this one replaced meanwhile
            self._status_page.put(fresh_at_ms=0)
        self._status_page.use(generation_of(path.name), file.identity)
        return file

    def wanted(self, file: FactsFile, *, is_cut_off: bool = False) -> tuple[str, str] | None:
        """Why a fresh snapshot has to be loaded, in a word and a sentence. `ReplicaForeign` if the file is damaged."""
        now_ms = monotonic_ms()
        self._heed_report(file, now_ms, is_cut_off)
        self._scrub(file, now_ms)
        if now_ms - self._readers_checked_at_ms >= CHECK_READERS_EVERY_MS:
            self._readers_checked_at_ms = now_ms
            file.check_readers()
        if now_ms - self._place_checked_at_ms >= CHECK_PLACE_EVERY_MS:
            self._place_checked_at_ms = now_ms
            self._check_status_page(file)
            if misplaced := self._misplaced(file):
                return misplaced
        if files.rebuild_is_asked(self._directory):
            return "asked", "somebody asked for a fresh snapshot"
        return None

    async def aclose(self) -> None:
        """End a scrub under way."""
        if self._scrubbing is not None:
            scrub = self._scrubbing[2]
            self._scrubbing = None
            scrub.cancel()
            await asyncio.wait([scrub])

    def _misplaced(self, file: FactsFile) -> tuple[str, str] | None:
        """Somebody may have taken files away or put others in their place."""
        if not file.is_in_place:
            files.forget_current(self._directory)  # what has the name now is another file
        elif problem := file.was_changed():
            raise _damaged(file, problem)
        elif files.is_current(file.path):
            return None
        return "misplaced", f"{file.path.name}, or the name that leads to it, was taken away"

    def _check_status_page(self, file: FactsFile) -> None:
        self._status_page.name_facts(file.identity)  # again: an older page may have been copied over this one
        if not self._status_page.is_in_place:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._status_page.lay_out_again()
            _log.warning("the status page was taken away and is laid out again")

    def _heed_report(self, file: FactsFile, now_ms: int, is_cut_off: bool) -> None:
        report = files.damage_reported(self._directory, file.path.name)
        if report is None:
            return
        if not is_cut_off and now_ms - self._report_heeded_at_ms >= REPORTS_HEEDED_EVERY_MS:
            self._report_heeded_at_ms = now_ms
            raise _damaged(file, report)
        self._scrub_at_ms = 0

    def _scrub(self, file: FactsFile, now_ms: int) -> None:
        if self._scrubbing is None:
            if now_ms >= self._scrub_at_ms:
                self._scrubbing = file, now_ms, asyncio.create_task(file_check.scrubbed(file.path))
            return
        scrubbed, began_ms, scrub = self._scrubbing
        if not scrub.done():
            return
        self._scrubbing = None
        try:
            problem = scrub.result()
        except TimeoutError:
            self._scrub_at_ms = now_ms + AFTER_GIVING_UP_MS
            return
        pause_ms = SCRUB_PAUSE_FACTOR * (now_ms - began_ms)
        self._scrub_at_ms = now_ms + min(max(pause_ms, MIN_SCRUB_PAUSE_MS), MAX_SCRUB_PAUSE_MS)
        if scrubbed is not file or not file.is_in_place:
            return
        if problem:
            raise _damaged(file, problem)
        files.forget_damage(self._directory)  # a reader that meets a page which can't be read reports it again


def _damaged(file: FactsFile, problem: str) -> ReplicaForeign:
    return ReplicaForeign(f"{file.path.name} is damaged: {problem}")
