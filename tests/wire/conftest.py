"""A small facts file, and what a worker makes of it, without a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.replica.reading import Reading
from gate.wire.client import Worker
from tests.replica.ledger import Ledger, app_facts, said
from tests.wire.peer import Peer

SECRETS = ("secret", "the one before")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """App `app`: bob is on alice's blacklist, eve is banned, carol's whitelist admits alice; App `other` is empty."""
    made = Ledger(tmp_path / "replica", 1, app_facts(secrets=SECRETS), app_facts("other", secrets=("theirs",)))
    made.commit(
        said("blocked", b"alice", b"bob"),
        said("ban-imposed", b"eve"),
        said("whitelist-switched", b"carol", value=b"1"),
        said("admitted", b"carol", b"alice"),
    )
    yield made
    made.close()


@pytest.fixture
def worker(ledger: Ledger) -> Iterator[Worker]:
    reading = Reading(ledger.directory)
    yield Worker(reading)
    reading.close()


@pytest.fixture
def stranger(worker: Worker) -> Peer:
    return Peer(worker)


@pytest.fixture
def peer(stranger: Peer) -> Peer:
    assert stranger("AUTH", "app", "secret") == b"OK"
    return stranger
