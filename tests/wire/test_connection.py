"""One connection on a transport that only records: order, waiting, bounds, and how it ends."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gate.core.revision import Revision
from gate.replica.reading import Reading
from gate.wire import replies
from gate.wire import waiting as module
from gate.wire.client import Client, Worker
from gate.wire.commands import COMMANDS as TABLE
from gate.wire.commands import answer
from gate.wire.refusals import TOO_MANY
from gate.wire.turns import PIECE_COMMANDS
from harness.seeds import examples
from tests.replica.ledger import EPOCH, Ledger, app_facts, app_set, said
from tests.wire.line import AUTH, Line, command
from tests.wire.malformed import REFUSED

PINGS = b"PING\r\n" * 3


@pytest.fixture
def line(worker: Worker) -> Line:
    made = Line(worker)
    assert made.send(AUTH) == b"+OK\r\n"
    return made


# Order


def test_replies_keep_the_order_of_commands(line: Line) -> None:
    sent = command("PING") + command("GATE.CHECK", "bob", "alice") + command("nosuch") + command("ECHO", "x")
    assert line.send(sent).startswith(b"+PONG\r\n:0\r\n-ERR unknown command 'nosuch'")
    assert line.transport.written.endswith(b"$1\r\nx\r\n")


NAMES = st.sampled_from([b"alice", b"bob", b"carol", b"eve", b"x", b"", b"y" * 65, b"\r\n"])
COMMANDS = st.one_of(
    st.tuples(st.sampled_from([b"GATE.CHECK", b"GATE.VERDICT", b"gate.check"]), NAMES, NAMES),
    st.tuples(st.just(b"GATE.CHECK"), NAMES, NAMES),
    st.tuples(st.just(b"GATE.MCHECK"), NAMES, NAMES, NAMES),
    st.sampled_from(
        [
            (b"PING",),
            (b"ECHO", b"x"),
            (b"GATE.CHECK", b"alice"),
            (b"GATE.CHECK", b"bob", b"alice", b"MIN", f"0:{EPOCH}:1".encode()),
            (b"GATE.CHECK", b"bob", b"alice", b"MIN", b"nonsense"),
            (b"RESET",),
            (b"AUTH", b"app", b"secret"),
            (b"AUTH", b"app", b"wrong"),
            (b"HELLO", b"3"),
            (b"nosuch", b"\xff"),
            (b"CLIENT", b"GETNAME"),
            (b"QUIT",),
        ]
    ),
)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(COMMANDS, max_size=30), cuts=st.lists(st.integers(0, 1_500), max_size=6))
def test_any_mix_in_any_chunks_is_answered_as_one_by_one(
    worker: Worker, batch: list[tuple[bytes, ...]], cuts: list[int]
) -> None:
    line = Line(worker)
    sent = AUTH + b"".join(command(*words) for words in batch)
    edges = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    written = line.send(*(sent[start:stop] for start, stop in pairwise(edges)))
    client = Client(worker, TABLE)
    client.id = line.connection.client.id
    assert written == _one_by_one(client, [(b"AUTH", b"app", b"secret"), *batch])
    assert line.transport.closed == ((b"QUIT",) in batch)


def _one_by_one(client: Client, batch: list[tuple[bytes, ...]]) -> bytes:
    worker, written = client.worker, b""
    for words in batch:
        worker.begin()
        reply = answer(client, words)
        worker.reading.release()
        assert isinstance(reply, bytes)
        written += reply
        if client.quitting:
            break
    return written


# Ends


@pytest.mark.parametrize("broken, text", REFUSED[:20])
def test_broken_resp_is_said_after_the_replies_before_it(line: Line, broken: bytes, text: str) -> None:
    assert line.send(command("PING") + broken + command("PING")) == b"+PONG\r\n" + replies.error(text)
    assert line.transport.closed
    assert line.connection in line.watch.watched, "a peer that does not read the error is cut"
    assert line.send(PINGS) == b""


def test_nothing_is_answered_after_quit(line: Line) -> None:
    assert line.send(command("QUIT") + PINGS, PINGS) == b"+OK\r\n"
    assert line.transport.closed


def test_quit_in_an_early_slice_ends_a_long_pipeline(line: Line) -> None:
    assert line.send(command("QUIT") + b"PING\r\n" * (3 * PIECE_COMMANDS)) == b"+OK\r\n"


def test_one_connection_too_many_gets_an_error_and_is_closed(worker: Worker) -> None:
    line = Line(worker, full=True)
    assert line.transport.written == b"-%b\r\n" % TOO_MANY.encode()
    assert line.transport.closed
    assert line.send(PINGS) == b""


def test_the_end_of_input_closes_a_peer_that_is_owed_nothing(line: Line) -> None:
    line.send(command("PING") + b"*3\r\n$10\r\nGATE")
    assert line.connection.eof_received() is False


def test_drain_closes_an_idle_connection_and_ignores_what_comes_later(line: Line) -> None:
    line.connection.drain()
    assert line.transport.closed
    assert line.send(PINGS) == b""


# A peer that does not read


def test_a_peer_that_never_reads_holds_a_bounded_amount(worker: Worker) -> None:
    line = Line(worker, room=1_000)
    line.send(b"PING\r\n" * 40_000)
    assert len(line.transport.written) <= 2 * PIECE_COMMANDS * len(replies.PONG)
    assert not line.transport.reading
    assert line.connection in line.watch.watched
    assert line.connection.stalled_ms(1_000) == 1
    assert line.connection.stalled_ms(31_001) == 30_001


def test_a_peer_that_reads_again_gets_everything_in_order(worker: Worker) -> None:
    line = Line(worker, room=1_000)
    wanted = b"".join(replies.bulk(b"%d" % number) for number in range(5_000))
    line.send(AUTH + b"".join(command("ECHO", b"%d" % number) for number in range(5_000)))
    for _ in range(5_000 // PIECE_COMMANDS + 2):
        line.transport.room += 10_000
        line.connection.resume_writing()
        line.go_on()
    assert line.transport.written == b"+OK\r\n" + wanted
    assert line.transport.reading
    assert line.connection.stalled_ms(9_000) == 0


def test_a_slow_reader_that_gets_on_is_not_cut(worker: Worker) -> None:
    line = Line(worker, room=1_000)
    line.send(b"PING\r\n" * 10_000)
    line.connection.stalled_ms(1_000)
    line.connection.resume_writing()
    assert line.connection.stalled_ms(40_000) == 1, "time counts from its last step"


def test_a_slow_sender_is_timed_from_its_last_whole_command(line: Line) -> None:
    half = command("ECHO", "x")[:9]
    line.send(half)
    line.connection.stalled_ms(1_000)
    line.send(command("ECHO", "x")[9:] + half)
    assert line.connection.stalled_ms(40_000) == 1
    assert line.connection.stalled_ms(41_000) == 1_000
    line.send(command("ECHO", "x")[9:])
    assert line.connection.stalled_ms(90_000) == 0


# Waiting for a Revision


def _ahead(ledger: Ledger, by: int = 1) -> Revision:
    return ledger.revision._replace(seq=ledger.revision.seq + by)


def _check(*words: str | Revision) -> bytes:
    return command("GATE.VERDICT", *map(str, words))


async def test_a_check_waits_for_the_revision_it_demands(ledger: Ledger, line: Line) -> None:
    asked = _check("zoe", "alice", "MIN", _ahead(ledger))
    assert line.send(command("PING") + asked + command("ECHO", "after")) == b"+PONG\r\n"
    assert not line.transport.reading
    ledger.commit(said("blocked", b"alice", b"zoe"))
    wanted = b"+OK\r\n+PONG\r\n" + replies.bulk(b"blacklisted") + replies.bulk(b"after")
    assert await line.answered(len(wanted)) == wanted
    assert line.transport.reading


async def test_order_holds_for_a_wait_early_in_a_very_long_pipeline(ledger: Ledger, line: Line) -> None:
    count = 3 * PIECE_COMMANDS
    echoes = [command("ECHO", b"%d" % number) for number in range(count)]
    line.send(echoes[0] + _check("a", "b", "MIN", _ahead(ledger)) + b"".join(echoes[1:]))
    ledger.commit(said("user-registered", b"a"))
    echoed = [replies.bulk(b"%d" % number) for number in range(count)]
    wanted = b"+OK\r\n" + echoed[0] + replies.bulk(b"allowed") + b"".join(echoed[1:])
    assert await line.answered(len(wanted)) == wanted


async def test_one_deadline_for_all_that_came_together(
    ledger: Ledger, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1_000]
    monkeypatch.setattr(module, "monotonic_ms", lambda: clock[0])
    line.send(_check("a", "b", "MIN", _ahead(ledger)) * 1_000 + command("PING"))
    clock[0] += module.MIN_WAIT_MS
    refusal = f"STALE this Replica has not applied {_ahead(ledger)} within {module.MIN_WAIT_MS} ms: ask again, or another node"
    wanted = b"+OK\r\n" + replies.error(refusal) * 1_000 + b"+PONG\r\n"
    assert await line.answered(len(wanted)) == wanted
    line.send(_check("a", "b", "MIN", _ahead(ledger)))
    assert line.transport.written == wanted, "what comes later may wait again"
    line.connection.connection_lost(None)


async def test_half_a_command_behind_one_that_waits_is_not_the_peers_delay(ledger: Ledger, line: Line) -> None:
    line.send(_check("a", "b", "MIN", _ahead(ledger)) + command("ECHO", "x")[:9])
    assert line.connection.stalled_ms(1_000) == 0, "what follows is not read meanwhile"
    ledger.commit(said("user-registered", b"a"))
    await line.answered(18)
    assert line.connection in line.watch.watched
    assert line.connection.stalled_ms(90_000) == 1, "time counts from when it may go on"
    assert line.connection.stalled_ms(91_000) == 1_000


async def test_drain_lets_a_waiting_check_finish(ledger: Ledger, line: Line) -> None:
    line.send(_check("a", "b", "MIN", _ahead(ledger)) + command("PING"))
    line.connection.drain()
    assert not line.transport.closed
    ledger.commit(said("user-registered", b"a"))
    assert (await line.answered(24)).endswith(replies.bulk(b"allowed") + b"+PONG\r\n")
    assert line.transport.closed


async def test_a_peer_that_finished_sending_gets_the_reply_it_waits_for(ledger: Ledger, line: Line) -> None:
    line.send(_check("a", "b", "MIN", _ahead(ledger)))
    assert line.connection.eof_received() is True
    ledger.commit(said("user-registered", b"a"))
    await line.answered(18)
    assert line.transport.closed


async def test_a_peer_that_left_while_it_waited_leaves_nothing_behind(ledger: Ledger, line: Line) -> None:
    line.send(_check("a", "b", "MIN", _ahead(ledger)))
    before = line.connection.revision_wait.looks_again
    line.connection.connection_lost(None)
    assert (before, line.connection.revision_wait.looks_again) == (True, False)


async def test_a_facts_file_that_fails_during_a_wait_ends_the_wait(ledger: Ledger, line: Line, worker: Worker) -> None:
    line.send(_check("a", "b", "MIN", _ahead(ledger)) + command("PING"))
    worker.reading.close()
    assert b"-UNAVAILABLE this Replica was closed\r\n+PONG\r\n" in await line.answered(50)


# The App behind a connection


def test_an_app_that_is_removed_under_a_connection(ledger: Ledger, line: Line) -> None:
    pair = command("GATE.CHECK", "bob", "alice") * 2
    assert line.send(pair) == b":0\r\n:0\r\n"
    ledger.commit(said("app-removed"))
    first, second = line.send(pair).splitlines()
    assert first.startswith(b"-NOAUTH The App of this connection was removed")
    assert second.startswith(b"-NOAUTH Authentication required")
    assert line.send(command("PING")) == b"+PONG\r\n"


def test_settings_that_change_under_a_connection_count_from_the_next_chunk(ledger: Ledger, line: Line) -> None:
    pair = command("GATE.CHECK", "bob", "alice") * 2
    assert line.send(pair) == b":0\r\n:0\r\n"
    ledger.commit(app_set(app_facts(exempt=frozenset(["bob"]))))
    assert line.send(pair) == b":1\r\n:1\r\n"
    ledger.commit(app_set(app_facts(require_registered=True)))
    assert line.send(command("GATE.VERDICT", "bob", "alice")) == replies.bulk(b"sender-unknown")


def test_without_facts_what_needs_none_is_answered(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "r", 1, app_facts())
    reading = Reading(ledger.directory)
    line = Line(Worker(reading))
    line.send(AUTH)
    reading.close()
    refusal = b"-UNAVAILABLE this Replica was closed\r\n"
    sent = command("GATE.CHECK", "a", "b") * 2 + command("PING") + command("INFO") + command("QUIT")
    assert line.send(sent) == refusal * 2 + b"+PONG\r\n" + refusal + b"+OK\r\n"
    ledger.close()
