"""A facts file that a test writes, one commit at a time, as the replicator does after a read.

Used by the tests of readers and of the RESP port. The file has one Partition; the ledger keeps its Position.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.core.changes import Change
from gate.core.codec import pack_app
from gate.core.model import FOREVER_MS, AppFacts
from gate.core.revision import Position, Revision
from gate.replica import app_reading, envs
from gate.replica.files import make_current
from gate.replica.layout import facts_name
from gate.replica.writer import FactsFile

EPOCH = "00000000000000e1"
NOW_MS = 1_700_000_000_000


def app_facts(key: str = "app", **settings: object) -> AppFacts:
    return AppFacts(**{"key": key, "secrets": ("secret",), **settings})  # type: ignore[arg-type]


class Ledger:
    """The writer of one facts file, which is current in `directory` by default."""

    def __init__(self, directory: Path, generation: int = 1, *apps: AppFacts, current: bool = True) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.file = FactsFile.create(directory / facts_name(generation), 1)
        self.file.finish([Position(EPOCH, 0, "")], NOW_MS)
        if current:
            make_current(self.file.path)
        if apps:
            self.commit(*map(app_set, apps))

    @property
    def revision(self) -> Revision:
        """Of the last commit."""
        position = self.file.positions[0]
        return Revision(0, position.epoch, position.seq)

    def commit(self, *changes: Change) -> Revision:
        """All of them in one transaction, numbered behind the last."""
        position = self.file.positions[0]
        batch: list[Change] = []
        for seq, change in enumerate(changes, position.seq + 1):
            tip = f"{seq:016x}"
            batch.append(change._replace(seq=seq, write_id=tip, previous_write_id=position.tip))
            position = Position(position.epoch, seq, tip)
        self.file.apply({0: batch}, NOW_MS)
        return self.revision

    def replace(self, successor: Ledger) -> None:
        """Let readers of this file move to another."""
        make_current(successor.file.path)
        self.file.name_successor(successor.file.path.name)

    def close(self) -> None:
        self.file.close()


def said(
    kind: str,
    user: bytes = b"",
    *members: bytes,
    app: str = "app",
    until_ms: int = FOREVER_MS,
    value: bytes = b"",
) -> Change:
    """A Change that a ledger numbers later."""
    return Change(0, kind, NOW_MS, "", "", app, user, until_ms, members, value)


def app_set(facts: AppFacts) -> Change:
    return said("app-set", app=facts.key, value=pack_app(facts))


def without_core(patch: pytest.MonkeyPatch) -> None:
    """Readers that are made from now on answer in Python."""
    for module in (app_reading, envs):
        patch.setattr(module, "trusted_core", lambda: None)
