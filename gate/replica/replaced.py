"""Facts files that a newer one has replaced: their readers are sent on, then they are deleted.

A reader may just have read a replaced file's name and be about to open it, so the file stays for some seconds. Called by the
replicator.
"""

from __future__ import annotations

import asyncio

import structlog

from gate.errors import ReplicaForeign, ReplicaFull
from gate.replica import files
from gate.replica.writer import FactsFile

OLD_FACTS_KEPT_S = 10.0
"""After a swap, until the replaced file is deleted."""

_log = structlog.get_logger()


class Replaced:
    """Those of one replicator."""

    def __init__(self) -> None:
        self._waiting: list[FactsFile] = []

    def add(self, file: FactsFile) -> None:
        """Another file was put in this one's place."""
        self._waiting.append(file)

    def send_readers_on(self, successor: str) -> None:
        """Name the successor in replaced files. A full disk may refuse that, so it is tried until it is done."""
        while self._waiting:
            old = self._waiting[0]
            try:
                old.name_successor(successor)
            except ReplicaFull:
                return
            except ReplicaForeign as fault:
                _log.warning(
                    "a replaced facts file can't be written; its readers move by the board", problem=str(fault)
                )
            self.drop(self._waiting.pop(0))

    def drop(self, file: FactsFile) -> None:
        """Let a file go without writing to it, and delete it soon."""
        file.close()
        asyncio.get_running_loop().call_later(OLD_FACTS_KEPT_S, files.delete_facts, file.path, file.identity)

    def close(self) -> None:
        """Let all of them go; the next replicator deletes them."""
        for file in self._waiting:
            file.close()
