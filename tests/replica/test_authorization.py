"""The Change up to which a User was authorized. A fence in Redis is compared with it, so it must never promise too much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from gate.clock import monotonic_ms, wall_ms
from gate.core.token import mint
from gate.errors import TokenRefused, Unavailable
from gate.replica.authorization import Admission, applied_of, authorize_connect
from gate.replica.layout import BOARD_FILE
from gate.replica.reading import Reading
from gate.replica.status_page import State, StatusPage
from tests.replica.ledger import EPOCH, Ledger, app_facts, said


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


@pytest.fixture
def reading(ledger: Ledger, tmp_path: Path) -> Iterator[Reading]:
    reading = Reading(tmp_path)
    yield reading
    reading.close()


async def test_a_user_that_is_verified_again_keeps_what_its_token_says(ledger: Ledger, reading: Reading) -> None:
    app = app_facts(token_ttl_s=60)
    with reading:
        before = authorize_connect(reading, mint(app, b"ann", wall_ms(), b"8 bytes!"), wall_ms())
    assert before.expires_at_ms > 0
    with pytest.raises(Unavailable):
        await Admission(lambda: reading).verify_again(before, monotonic_ms() + 20)
    ledger.commit(said("ban-imposed", b"ann"), said("ban-lifted", b"ann"))
    after = await Admission(lambda: reading).verify_again(before, monotonic_ms() + 1_000)
    assert (after.expires_at_ms, after.generation) == (before.expires_at_ms, before.generation)
    assert after.log_seq == ledger.revision.seq > before.log_seq


async def test_a_token_that_expired_meanwhile_is_refused(ledger: Ledger, reading: Reading) -> None:
    app = app_facts(token_ttl_s=60)
    with reading:
        before = authorize_connect(reading, mint(app, b"ann", wall_ms() - 59_900, b"8 bytes!"), wall_ms())
    ledger.commit(said("blocked", b"ann", b"bob"))
    verifying = Admission(lambda: reading).verify_again(
        replace(before, expires_at_ms=wall_ms()), monotonic_ms() + 1_000
    )
    with pytest.raises(TokenRefused) as refused:
        await verifying
    assert refused.value.fault == "expired"
