"""A connection is let in by a secret, and speaks for its App only as long as that secret is one of the App's."""

from __future__ import annotations

import pytest

from gate.wire.client import Worker
from tests.replica.ledger import Ledger, app_facts, app_set
from tests.wire.conftest import SECRETS
from tests.wire.line import Line
from tests.wire.peer import Peer

CHECK = b"*3\r\n$10\r\nGATE.CHECK\r\n$3\r\nbob\r\n$5\r\nalice\r\n"
REFUSED = b"-NOAUTH The secret that this connection gave is no longer accepted. Send AUTH app-key app-secret\r\n"


@pytest.fixture
def line(worker: Worker) -> Line:
    made = Line(worker)
    made.send(b"AUTH app secret\r\n")
    made.send(CHECK)
    assert made.transport.written == b"+OK\r\n:0\r\n"
    made.transport.written = b""
    return made


@pytest.mark.parametrize("times", [1, 2, 40], ids=["a lone check", "a short pipeline", "a long one"])
def test_a_dropped_secret_ends_what_it_let_in(ledger: Ledger, line: Line, times: int) -> None:
    ledger.commit(app_set(app_facts(secrets=("fresh",))))
    line.send(CHECK * times)
    again = b"-NOAUTH Authentication required. Send AUTH app-key app-secret\r\n"
    assert line.transport.written == REFUSED + again * (times - 1)
    line.transport.written = b""
    line.send(b"AUTH app fresh\r\n" + CHECK)
    assert line.transport.written == b"+OK\r\n:0\r\n"


@pytest.mark.parametrize("times", [1, 2])
def test_a_rotation_under_way_and_other_settings_end_nothing(ledger: Ledger, line: Line, times: int) -> None:
    for settings in ({"secrets": ("fresh", *SECRETS)}, {"secrets": ("fresh", "secret"), "name": "other"}):
        ledger.commit(app_set(app_facts(**settings)))
        line.send(CHECK * times)
    assert line.transport.written == b":0\r\n" * 2 * times


def test_an_app_that_was_created_again_under_the_key_is_another(ledger: Ledger, worker: Worker, peer: Peer) -> None:
    """A connection that was silent meanwhile never saw the App gone."""
    recreated = Ledger(ledger.directory, 2, app_facts(secrets=("theirs",)), current=False)
    ledger.replace(recreated)
    try:
        assert peer.error("GATE.CHECK", "a", "b").startswith("NOAUTH ")
        assert peer.error("GATE.EXPLAIN", "a", "b").startswith("NOAUTH ")
    finally:
        worker.reading.close()
        recreated.close()


def test_a_reloaded_replica_ends_nothing(ledger: Ledger, worker: Worker, peer: Peer) -> None:
    reloaded = Ledger(ledger.directory, 2, app_facts(secrets=SECRETS), current=False)
    ledger.replace(reloaded)
    try:
        assert peer("GATE.CHECK", "a", "b") == 1
    finally:
        worker.reading.close()
        reloaded.close()
