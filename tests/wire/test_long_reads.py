"""A GATE.MCHECK too long for one turn: answered in slices, from the facts of one commit, while others are answered."""

from __future__ import annotations

import asyncio

import pytest

from gate.wire import checks, long_reads, turns
from gate.wire.client import Worker
from tests.replica.ledger import Ledger, app_facts, app_set, said
from tests.wire.line import AUTH, Line, command

USERS = [b"alice", *(b"user%06d" % number for number in range(3_000)), b"alice"]
FAN_OUT = command("GATE.MCHECK", "bob", *USERS)


@pytest.fixture
def line(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Line:
    """On a machine so slow that everything takes as many slices as it may."""
    monkeypatch.setattr(checks, "AT_ONCE_US", 0)
    monkeypatch.setattr(long_reads, "SLICE_US", 0)
    monkeypatch.setattr(turns, "ROUND_US", 0)
    made = Line(worker)
    assert made.send(AUTH) == b"+OK\r\n"
    return made


def answered(*denied: int) -> bytes:
    ones = [b":0\r\n" if at in denied else b":1\r\n" for at in range(len(USERS))]
    return b"*%d\r\n" % len(USERS) + b"".join(ones)


def until_under_way(line: Line) -> None:
    while not line.worker.long_reads.is_under_way:
        assert line.one_pass()


LAST = len(USERS) - 1


async def test_all_answers_are_from_one_commit_and_others_see_the_next(ledger: Ledger, line: Line) -> None:
    other = line.of_the_same_worker()
    other.send(AUTH)
    line.transport.incoming = FAN_OUT + command("PING")
    until_under_way(line)
    assert line.transport.written == b"+OK\r\n"
    ledger.commit(said("unblocked", b"alice", b"bob"))
    assert other.only_me(command("GATE.CHECK", "bob", "alice")) == b":1\r\n"
    wanted = b"+OK\r\n" + answered(0, LAST) + b"+PONG\r\n"
    assert await line.answered(len(wanted)) == wanted
    line.transport.written, line.transport.incoming = b"", FAN_OUT
    assert await line.answered(len(answered())) == answered()


async def test_two_at_once_are_answered_one_after_the_other(line: Line, worker: Worker) -> None:
    other = line.of_the_same_worker()
    other.send(AUTH)
    line.transport.incoming = other.transport.incoming = FAN_OUT
    while other.transport.deliver():
        pass
    await line.answered(len(answered()) + 5)
    await other.answered(len(answered()) + 5)
    assert line.transport.written == other.transport.written == b"+OK\r\n" + answered(0, LAST)
    assert worker.words["blacklisted"] == 4


async def test_a_wrong_id_in_it_refuses_the_command_alone(line: Line) -> None:
    line.transport.incoming = command("GATE.MCHECK", "bob", *USERS, b"y" * 65) + command("PING")
    written = await line.answered(40)
    assert written.startswith(b"+OK\r\n-ERR userId: ") and written.endswith(b"+PONG\r\n")


async def test_an_app_that_is_removed_before_its_turn(ledger: Ledger, line: Line, worker: Worker) -> None:
    other = line.of_the_same_worker()
    other.send(AUTH)
    line.transport.incoming = other.transport.incoming = FAN_OUT
    until_under_way(line)
    while worker.long_reads.waiting < 2:
        other.transport.deliver()
        assert line.one_pass()
    ledger.commit(said("app-removed"))
    await line.answered(len(answered()) + 5)
    assert b"-NOAUTH the App 'app' was removed" in await other.answered(20)


async def test_a_peer_that_left_takes_no_more_turns(line: Line, worker: Worker) -> None:
    line.transport.incoming = FAN_OUT
    until_under_way(line)
    line.connection.connection_lost(None)
    await asyncio.sleep(0)
    line.go_on()
    assert not worker.turns.is_busy and not worker.long_reads.waiting
    assert worker.words["blacklisted"] == 0


async def test_a_dropped_secret_ends_the_next_one(ledger: Ledger, line: Line) -> None:
    line.transport.incoming = FAN_OUT
    await line.answered(len(answered()) + 5)
    ledger.commit(app_set(app_facts(secrets=("fresh",))))
    assert line.send(FAN_OUT).startswith(b"-NOAUTH ")


def test_one_that_fits_in_a_slice_is_answered_at_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "AT_ONCE_US", 10_000_000)
    line = Line(worker)
    line.send(AUTH)
    assert line.send(FAN_OUT) == answered(0, LAST)


async def test_a_half_closing_peer_gets_its_answer(line: Line) -> None:
    line.transport.written, line.transport.incoming = b"", FAN_OUT
    until_under_way(line)
    assert line.connection.eof_received()
    assert await line.answered(len(answered(0, LAST))) == answered(0, LAST)
