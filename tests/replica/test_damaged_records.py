"""Records of a facts file that can't be read: caches are emptied, and the damage is reported, rather than a guess answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gate.errors import ReplicaForeign
from gate.replica.files import DAMAGED_FILE
from gate.replica.layout import JOURNAL_EVERYTHING, META_PARTITIONS, journal_key, position_key
from gate.replica.reader import app_of
from gate.replica.reading import Reading
from tests.replica.ledger import Ledger, app_facts, said, without_core


@pytest.fixture(params=["compiled", "Python"])
def directory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "Python":
        without_core(monkeypatch)
    return tmp_path / "replica"


def word(reading: Reading, sender: bytes, recipient: bytes) -> str:
    with reading:
        return app_of(reading, "app").word(sender, recipient)


@pytest.mark.parametrize(
    "journal", [None, b"\0\0\1", b"\0\0\1\1", JOURNAL_EVERYTHING], ids=["none", "cut", "cut id", "all"]
)
def test_a_commit_whose_journal_names_no_user_empties_the_caches(directory: Path, journal: bytes | None) -> None:
    """A cached User that it does not name would keep the verdict of before."""
    ledger = Ledger(directory, 1, app_facts())
    ledger.commit(said("blocked", b"c", b"a"), said("whitelist-switched", b"c", value=b"1"))
    reading = Reading(directory)
    assert [word(reading, b"a", b"b"), word(reading, b"a", b"c")] == ["allowed", "not-whitelisted"]
    ledger.commit(said("ban-imposed", b"a"), said("whitelist-switched", b"c", value=b"0"))
    with ledger.file.read() as now:
        banned_in = journal_key(now.id())
    with ledger.file.write() as txn:
        if journal is None:
            assert txn.delete(banned_in)
        else:
            txn.put(banned_in, journal)
    assert [word(reading, b"a", b"b"), word(reading, b"b", b"c")] == ["sender-banned", "allowed"]
    reading.close()
    ledger.close()


def test_records_of_a_position_that_can_not_be_read_are_damage(directory: Path) -> None:
    ledger = Ledger(directory, 1, app_facts())
    with ledger.file.write() as txn:
        txn.put(position_key(0), b"\xff")
        txn.put(META_PARTITIONS, b"many")
    reading = Reading(directory)
    asked: list[Callable[[], object]] = [lambda: reading.position(0), lambda: reading.partitions]
    with reading:
        for ask in asked:
            with pytest.raises(ReplicaForeign, match="can't be read"):
                ask()
    assert (directory / DAMAGED_FILE).exists(), "the replicator loads the facts again"
    reading.close()
    ledger.close()
