"""The Change up to which a User was authorized. A fence in Redis is compared with it, so it must never promise too much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.replica.authorization import applied_of
from gate.replica.layout import BOARD_FILE
from gate.replica.reading import Reading
from gate.replica.status_page import State, StatusPage
from tests.replica.ledger import EPOCH, Ledger, app_facts


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path, 1, app_facts())
    yield ledger
    ledger.close()


def test_facts_of_a_history_that_redis_may_have_lost_promise_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """Redis went back, and numbers other Changes as it did those that are here: its Bans would look as if they were known."""
    status_page = StatusPage(tmp_path / BOARD_FILE, write=True)
    reading = Reading(tmp_path)
    applied = {}
    for state in (State.CURRENT, State.RELOADING, State.CATCHING_UP):
        status_page.put(state=state)
        reading.refresh()
        applied[state] = applied_of(reading, "app", b"u")
        reading.release()
    assert applied == {
        State.CURRENT: (EPOCH, 1),
        State.RELOADING: ("0", 0),
        State.CATCHING_UP: (EPOCH, 1),
    }
    reading.close()
    status_page.close()


def test_facts_without_a_status_page_are_as_new_as_they_say(ledger: Ledger, tmp_path: Path) -> None:
    reading = Reading(tmp_path)
    reading.refresh()
    assert applied_of(reading, "app", b"u") == (EPOCH, 1)
    reading.release()
    reading.close()
