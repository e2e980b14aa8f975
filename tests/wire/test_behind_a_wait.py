"""Checks that come while an earlier reply is still to come: none behind the end of a conversation, and not without bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.replica.reading import Reading
from gate.wire.client import Worker
from gate.wire.table import PendingReply
from tests.replica.ledger import Ledger, app_facts, said
from tests.wire.line import AUTH, Line, command

CHECK = command("GATE.CHECK", "bob", "alice")
VERDICT = command("GATE.VERDICT", "bob", "alice")
DENIED = b":0\r\n"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    ledger = Ledger(tmp_path, 1, app_facts())
    ledger.commit(said("blocked", b"alice", b"bob"))
    made = Worker(Reading(ledger.directory))
    yield made
    made.close()
    ledger.close()


async def waiting_line(worker: Worker) -> tuple[Line, asyncio.Future[None]]:
    """A connection with one reply that comes when the future is done."""
    line, arrival = Line(worker), asyncio.get_running_loop().create_future()
    line.send(AUTH)
    assert line.send(CHECK) == DENIED
    line.connection.outbox.wait_for(PendingReply(arrival, lambda: b"+LATE\r\n"))
    return line, arrival


@pytest.mark.parametrize("checks", [1, 3, 200])
@pytest.mark.parametrize("last", [command("QUIT"), b"*1\r\n!x\r\n", b'PING "a\r\n'], ids=["quit", "breach", "quote"])
async def test_nothing_is_answered_behind_the_last_word(worker: Worker, last: bytes, checks: int) -> None:
    line, arrival = await waiting_line(worker)
    before = len(line.transport.written)
    for sent in (last, CHECK * checks, CHECK * checks):
        line.send(sent)
    arrival.set_result(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    line.go_on()
    answered = line.transport.written[before:]
    assert answered.startswith(b"+LATE\r\n")
    assert DENIED not in answered
    line.connection.connection_lost(None)


@pytest.mark.parametrize("checks", [1, 64])
async def test_replies_behind_one_that_waits_are_bounded(worker: Worker, checks: int) -> None:
    line, arrival = await waiting_line(worker)
    for _ in range(20_000):
        line.transport.incoming += VERDICT * checks
        line.go_on()
        if line.transport.incoming:
            break
    assert line.transport.incoming, "it is read no further"
    assert sum(len(one) for one in line.connection.outbox.waiting if isinstance(one, bytes)) < 2 << 20
    arrival.set_result(None)
    await asyncio.sleep(0)
    line.connection.connection_lost(None)
