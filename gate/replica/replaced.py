"""Facts files that were replaced by a newer one: their readers are redirected, then they are deleted.

A reader may have read a replaced file's name and be about to open it, so the file stays for some seconds. Called by the
replicator.
"""

from __future__ import annotations

import asyncio

import structlog

from gate.errors import ReplicaForeign, ReplicaFull
from gate.replica import files
from gate.replica.writer import FactsFile

# From a swap to the deletion of the replaced file.
OLD_FACTS_KEPT_S = 10.0

_log = structlog.get_logger()


class Replaced:
    """The replaced files of one replicator."""

    def __init__(self) -> None:
        self._waiting: list[FactsFile] = []

    def add(self, file: FactsFile) -> None:
        """Add a file that was replaced."""
        self._waiting.append(file)

    def send_readers_on(self, successor: str) -> None:
        """Name the successor in replaced files. A full disk may refuse this, so it is repeated until it succeeds."""
        while self._waiting:
            # Oldest first; it stays in the list until its successor is written.
            old = self._waiting[0]
            try:
                old.name_successor(successor)
            except ReplicaFull:
                return
            except ReplicaForeign as fault:
                _log.warning(
                    "a replaced facts file can't be written; its readers move by the status page", problem=str(fault)
                )
            self.drop(self._waiting.pop(0))

    def drop(self, file: FactsFile) -> None:
        """Close a file without writing to it, and delete it soon."""
        file.close()
        asyncio.get_running_loop().call_later(OLD_FACTS_KEPT_S, files.delete_facts, file.path, file.identity)

    def close(self) -> None:
        """Close all of them. The next replicator deletes them."""
        for file in self._waiting:
            file.close()
