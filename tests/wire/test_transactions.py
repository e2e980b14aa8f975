"""MULTI, EXEC, DISCARD: as Redis answers them, from one commit, bounded, and with nothing left behind."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import hiredis
import pytest

from gate.wire import long_reads, transactions, turns
from gate.wire.checks import RevisionDemand
from gate.wire.client import Worker
from gate.wire.commands import COMMANDS, QUEUEING
from gate.wire.queued import MAX_QUEUED_BYTES, MAX_QUEUED_WEIGHT
from gate.wire.table import InMulti
from harness.servers import RedisServer
from tests.replica.ledger import Ledger, app_facts, app_set, said
from tests.wire.line import AUTH, Line, command
from tests.wire.peer import Peer


async def _settled() -> None:
    """Tasks have gone as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)


MULTI, EXEC = command("MULTI"), command("EXEC")
CHECK, MAY = command("GATE.CHECK", "bob", "alice"), command("GATE.CHECK", "alice", "bob")
BEGUN = b"+OK\r\n"
IN_LINE = b"+QUEUED\r\n"


@pytest.fixture
def line(worker: Worker) -> Line:
    made = Line(worker)
    assert made.send(AUTH) == b"+OK\r\n"
    return made


# As Redis answers


SESSIONS: list[list[tuple[str, ...]]] = [
    [("MULTI",), ("PING",), ("PING", "x"), ("EXEC",), ("PING",)],
    [("MULTI",), ("EXEC",)],
    [("MULTI",), ("PING",), ("DISCARD",), ("PING",)],
    [("MULTI",), ("PING",), ("ECHO", "a", "b"), ("PING",), ("EXEC",), ("PING",)],
    [("MULTI",), ("NOSUCH", "x"), ("DISCARD",)],
    [("MULTI",), ("PING",), ("RESET",), ("EXEC",)],
    [("EXEC",)],
    [("DISCARD",)],
    [("MULTI",), ("SELECT", "0"), ("ECHO", "y"), ("UNWATCH",), ("EXEC",)],
    [("MULTI", "x"), ("DISCARD", "x")],
    [("UNWATCH",)],
    [("MULTI",), ("PING",), ("QUIT",)],
]


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: " ".join(words[0] for words in session))
def test_a_session_is_answered_as_by_redis(
    peer: Peer, redis_server: RedisServer, session: list[tuple[str, ...]]
) -> None:
    theirs = _as_redis(redis_server.port, session)
    for words, wanted in zip(session, theirs, strict=True):
        ours = peer(*words)
        assert str(ours).startswith(str(wanted).rstrip(".")), (words, wanted)
        assert type(ours) is type(wanted)


def _as_redis(port: int, session: list[tuple[str, ...]]) -> list[Any]:
    reader, found = hiredis.Reader(), []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for words in session:
            connection.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
            while (reply := reader.gets()) is False:
                reader.feed(connection.recv(65_536))
            found.append(reply)
    return found


# Queueing


def test_checks_are_queued_however_they_come(line: Line) -> None:
    assert line.send(MULTI) == BEGUN
    assert line.send(CHECK) == IN_LINE, "alone, as `hot.answered_now` would answer it"
    assert line.send(CHECK * 3) == IN_LINE * 3, "alike, as `hot.batch_reply` would"
    assert line.send(MAY, command("GATE.VERDICT", "bob", "alice")) == IN_LINE * 2
    assert line.send(EXEC) == b"*6\r\n" + b":0\r\n" * 4 + b":1\r\n" + b"$11\r\nblacklisted\r\n"
    assert line.send(CHECK, CHECK * 3) == b":0\r\n" * 4
    wanted = BEGUN + IN_LINE + b"*1\r\n:0\r\n" + b":1\r\n"
    assert line.send(MULTI + CHECK + EXEC + MAY) == wanted, "in one read"


def test_each_error_within_exec_is_of_its_own_command(peer: Peer) -> None:
    peer("MULTI")
    for words in (("GATE.CHECK", "", "b"), ("SELECT", "1"), ("GATE.CHECK", "alice", "bob", "MAX", "1"), ("PING",)):
        assert peer(*words) == b"QUEUED"
    first, second, third, fourth = peer("EXEC")
    assert str(first).startswith("ERR userId: must be 1 to 64 bytes")
    assert str(second).startswith("ERR DB index is out of range")
    assert str(third).startswith("ERR syntax: expected MIN")
    assert fourth == b"PONG"


@pytest.mark.parametrize(
    "refused",
    [("NOSUCH",), ("GATE.CHECK", "a"), ("MULTI",), ("WATCH", "k"), ("SUBSCRIBE", "c"), ("AUTH", "app", "secret")],
    ids=lambda words: words[0],
)
def test_where_queueing_met_an_error_nothing_runs(peer: Peer, refused: tuple[str, ...]) -> None:
    peer("MULTI")
    assert peer("CLIENT", "SETNAME", "before") == b"QUEUED"
    peer.error(*refused)
    assert peer("CLIENT", "SETNAME", "behind") == b"QUEUED"
    assert peer.error("EXEC").startswith("EXECABORT Transaction discarded because of previous errors: nothing")
    assert peer.client.name == b""
    assert peer("MULTI") == b"OK" and peer("EXEC") == []


@pytest.mark.parametrize("name", [name.decode() for name, row in COMMANDS.items() if row.in_multi is InMulti.NEVER])
def test_what_cannot_be_queued_says_so(peer: Peer, name: str) -> None:
    peer("MULTI")
    refusal = peer.error(name, *["a"] * COMMANDS[name.encode()].least)
    assert refusal == "ERR Command not allowed inside a transaction: send it before MULTI or after EXEC"


def test_watch_says_what_to_do(peer: Peer) -> None:
    assert peer.error("WATCH", "a", "b").startswith("ERR WATCH is not supported: there are no keys here.")
    assert peer("UNWATCH") == b"OK"


def test_multi_needs_an_app(stranger: Peer) -> None:
    assert stranger.error("MULTI").startswith("NOAUTH ")
    assert stranger.error("EXEC").startswith("ERR EXEC without MULTI")


def test_a_secret_that_is_dropped_ends_what_was_queued_with_it(ledger: Ledger, peer: Peer) -> None:
    peer("MULTI")
    assert peer("GATE.CHECK", "alice", "bob") == b"QUEUED"
    ledger.commit(app_set(app_facts(secrets=("another",))))
    assert peer.error("GATE.CHECK", "alice", "bob").startswith("NOAUTH The secret that this connection gave")
    assert peer.client.worker.queued_bytes == 0
    assert peer.error("EXEC").startswith("EXECABORT ")
    assert peer("AUTH", "app", "another") == b"OK"
    assert peer("GATE.CHECK", "alice", "bob") == 1


def test_a_secret_that_is_dropped_before_exec_refuses_each_check(ledger: Ledger, peer: Peer) -> None:
    peer("MULTI")
    peer("GATE.CHECK", "alice", "bob")
    peer("PING")
    ledger.commit(app_set(app_facts(secrets=("another",))))
    refusal, pong = peer("EXEC")
    assert str(refusal).startswith("NOAUTH ") and pong == b"PONG"


def test_exec_without_readable_facts_refuses_each_check_alone(peer: Peer, worker: Worker) -> None:
    peer("MULTI")
    for words in (("GATE.CHECK", "alice", "bob"), ("PING",), ("GATE.EXPLAIN", "alice", "bob")):
        assert peer(*words) == b"QUEUED"
    worker.reading.close()
    check, pong, explained = peer("EXEC")
    assert [type(one) for one in (check, explained)] == [hiredis.ReplyError] * 2
    assert pong == b"PONG"
    assert peer("PING") == b"PONG", "the transaction is over"
    assert worker.queued_bytes == 0


# Bounds


def test_a_transaction_is_bounded_by_what_it_costs(peer: Peer) -> None:
    peer("MULTI")
    assert peer("GATE.MCHECK", "bob", *["x"] * (MAX_QUEUED_WEIGHT - 1)) == b"QUEUED"
    assert peer("PING") == b"QUEUED"
    refusal = peer.error("PING")
    assert refusal.startswith(f"ERR transaction: it counts for more than {MAX_QUEUED_WEIGHT} checks: send smaller")
    assert peer.client.worker.queued_bytes == 0
    assert peer.error("EXEC").startswith("EXECABORT ")


def test_a_transaction_is_bounded_in_bytes(peer: Peer) -> None:
    peer("MULTI")
    for _ in range(MAX_QUEUED_BYTES // 65_536 - 1):
        assert peer("ECHO", "x" * 65_000) == b"QUEUED"
    assert 0 < peer.client.worker.queued_bytes <= MAX_QUEUED_BYTES
    peer("ECHO", "x" * 65_000)
    assert "bytes: send smaller ones" in peer.error("ECHO", "x" * 65_000)


def test_every_command_weighs_something(peer: Peer) -> None:
    for name, row in QUEUEING.items():
        assert row.in_multi is COMMANDS[name].in_multi
        assert row.weigh is None or row.weigh([b"x"] * max(row.least, 1)) >= 1


def test_a_connection_that_closes_loses_only_its_queue(line: Line, worker: Worker) -> None:
    other = line.of_the_same_worker()
    other.send(AUTH, MULTI, CHECK)
    line.send(MULTI, CHECK)
    line.connection.connection_lost(None)
    assert worker.queued_bytes > 0
    assert other.send(EXEC) == b"*1\r\n:0\r\n"
    assert worker.queued_bytes == 0


# One commit


@pytest.fixture
def slow_line(line: Line, monkeypatch: pytest.MonkeyPatch) -> Line:
    """On a machine so slow that everything takes as many slices as it may."""
    monkeypatch.setattr(transactions, "AT_ONCE_WEIGHT", 0)
    for module in (long_reads, transactions):
        monkeypatch.setattr(module, "SLICE_US", 0)
    monkeypatch.setattr(turns, "ROUND_US", 0)
    return line


QUESTIONS = [
    CHECK,
    command("GATE.VERDICT", "bob", "alice", "FRESH", "9" * 15),
    command("GATE.MCHECK", "bob", *["alice", "zoe"] * 100),
    command("GATE.EXPLAIN", "bob", "alice"),
    command("INFO", "replica"),
    command("GATE.EXPLAIN", "bob", "alice", "SHORT"),
    CHECK,
]


async def test_all_answers_of_a_long_exec_are_from_one_commit(ledger: Ledger, slow_line: Line) -> None:
    line = slow_line
    other = line.of_the_same_worker()
    other.send(AUTH)
    line.send(MULTI, *QUESTIONS)
    line.transport.written = b""
    line.transport.incoming = EXEC + CHECK
    while not is_under_way(line):
        assert line.one_pass()
    ledger.commit(said("unblocked", b"alice", b"bob"))
    assert other.only_me(CHECK) == b":1\r\n", "others see the next commit meanwhile"
    assert line.transport.written == b""
    reader = hiredis.Reader()
    while (replies := reader.gets()) is False:
        line.one_pass()
        await _settled()
        reader.feed(line.transport.written)
        line.transport.written = b""
    first, verdict, many, explained, info, lines, last = replies
    assert (first, verdict, many, last) == (0, b"blacklisted", [0, 1] * 100, 0)
    assert explained[1] == b"blacklisted" and lines[0].startswith(b"blacklisted: bob may not message alice")
    assert info.startswith(b"# Replica")
    while (behind := reader.gets()) is False:
        line.one_pass()
        await _settled()
        reader.feed(line.transport.written)
    assert behind == 1, "what follows EXEC is answered from the newest"
    assert line.worker.long_reads.own_reading is not line.worker.reading


def test_a_short_exec_is_answered_from_one_commit(ledger: Ledger, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """FRESH reads the age of the facts, which outside of EXEC reads the facts once more."""
    peer("MULTI")
    peer("GATE.CHECK", "bob", "alice")
    peer("GATE.CHECK", "bob", "alice", "FRESH", "9" * 15)
    peer("GATE.EXPLAIN", "bob", "alice")
    worker = peer.client.worker
    begin, age = worker.begin_dated, worker.age_ms

    def commits_first() -> int:
        ledger.commit(said("unblocked", b"alice", b"bob"))
        return age()

    def begin_dated() -> None:
        begin()
        monkeypatch.setattr(worker, "age_ms", commits_first)

    monkeypatch.setattr(worker, "begin_dated", begin_dated)
    first, second, third = peer("EXEC")
    assert (first, second, third[1]) == (0, 0, b"blacklisted")


def is_under_way(line: Line) -> bool:
    return line.worker.long_reads.is_under_way


async def test_a_long_exec_of_an_app_that_was_removed_is_refused(ledger: Ledger, slow_line: Line) -> None:
    line = slow_line
    line.send(MULTI, *QUESTIONS)
    ledger.commit(said("app-removed"))
    line.transport.written, line.transport.incoming = b"", EXEC
    wanted = b"-NOAUTH "
    answer = await line.answered(len(wanted))
    assert answer.startswith(wanted) and b"Send AUTH app-key app-secret of another" in answer
    await _settled()
    assert line.worker.queued_bytes == 0


async def test_a_long_exec_whose_peer_is_gone_ends(slow_line: Line) -> None:
    line = slow_line
    line.send(MULTI, *QUESTIONS)
    line.transport.incoming = EXEC
    while not is_under_way(line):
        assert line.one_pass()
    line.connection.connection_lost(None)
    await _settled()
    line.go_on()
    assert not is_under_way(line) and not line.worker.long_reads.waiting
    assert not line.worker.turns.is_busy


async def test_a_half_closing_peer_gets_its_answer(slow_line: Line) -> None:
    """As from a shell's pipe, which ends behind its last command."""
    line = slow_line
    line.send(MULTI, *[CHECK] * 50)
    line.transport.written, line.transport.incoming = b"", EXEC
    while not is_under_way(line):
        assert line.one_pass()
    assert line.connection.eof_received()
    wanted = b"*50\r\n" + b":0\r\n" * 50
    assert await line.answered(len(wanted)) == wanted


# A demanded Revision


def test_exec_waits_for_what_its_checks_demand(ledger: Ledger, peer: Peer) -> None:
    ahead = ledger.revision._replace(seq=ledger.revision.seq + 1)
    peer("MULTI")
    peer("GATE.CHECK", "bob", "alice", "MIN", str(ahead))
    peer("GATE.CHECK", "bob", "alice")
    demand = peer.raw("EXEC")
    assert isinstance(demand, RevisionDemand) and demand.revisions == (ahead,)
    assert demand.late is not None
    ledger.commit(said("unblocked", b"alice", b"bob"))
    assert peer("EXEC") == [1, 1]


def test_what_did_not_come_in_time_is_stale_alone(ledger: Ledger, peer: Peer) -> None:
    ahead = ledger.revision._replace(seq=ledger.revision.seq + 1)
    peer("MULTI")
    peer("GATE.CHECK", "bob", "alice", "MIN", str(ahead))
    peer("GATE.CHECK", "bob", "alice")
    demand = peer.raw("EXEC")
    assert isinstance(demand, RevisionDemand) and demand.late is not None
    late = demand.late()
    assert isinstance(late, bytes)
    assert late.startswith(b"*2\r\n-STALE this Replica has not applied ") and late.endswith(b"\r\n:0\r\n")
    assert peer.error("EXEC").startswith("ERR EXEC without MULTI")
