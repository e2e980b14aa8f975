"""A connection with the compiled core and one without return the same bytes, for any input and any fragmentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gate import Replica, native
from gate.replica import app_reading, envs
from gate.replica.files import make_current
from gate.replica.layout import user_prefix
from gate.replica.reading import Reading
from gate.wire.client import Worker
from gate.wire.strict import StrictReader
from harness.seeds import examples
from tests.replica.ledger import Ledger, app_facts, app_set, said
from tests.wire.line import Line, command

pytestmark = pytest.mark.skipif(native.core is None, reason=native.why_not)

LONG = b"one-byte-more-than-20"
IDS = [
    b"alice",
    b"bob",
    b"carol",
    b"eve",
    b"star",
    LONG,
    b"x" * 64,
    b"x" * 65,
    b"",
    b"\r\n",
    b"$1",
    b"\x00",
    b"stranger",
]
AUTH = command("AUTH", "app", "secret")

ids = st.sampled_from(IDS)
checks = st.builds(command, st.sampled_from(["GATE.CHECK", "GATE.CHECK", "GATE.VERDICT", "gate.check"]), ids, ids)
fan_outs = st.builds(lambda some: command("GATE.MCHECK", *some), st.lists(ids, min_size=1, max_size=20))
others = st.sampled_from(
    [
        *(command("PING"), b"PING\r\n", b"\r\n", b"*0\r\n", command("ECHO", "a"), command("GATE.CHECK", "alice")),
        *(command("GATE.CHECK", "bob", "alice", "FRESH", "5"), command("GATE.CHECK", "bob", "alice", "MIN", "bad")),
        *(command("NOPE"), command("GATE.MCHECK", *["bob"] * 300), b"GATE.CHECK bob alice\r\n"),
        *(
            b"*3\r\n$010\r\nGATE.CHECK\r\n",
            b"*3\r\n$10\r\nGATE.CHECK\r\n$3\r\nbobXX$5\r\nalice\r\n",
            b"*03\r\n",
            b"*3\r\n",
        ),
        *(b"$3\r\nbob\r\n", command("AUTH", "other", "theirs"), command("AUTH", "app", "secret"), command("RESET")),
    ]
)
streams = st.lists(checks | checks | fan_outs | others, max_size=30).map(b"".join)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    directory = tmp_path_factory.mktemp("answers") / "replica"
    made = Ledger(directory, 1, app_facts(exempt=frozenset(["star"])), app_facts("other", secrets=("theirs",)))
    made.commit(
        said("blocked", b"alice", b"bob", b"star", LONG),
        said("blocked", b"x" * 64, b"bob", until_ms=1),
        said("ban-imposed", b"eve"),
        said("whitelist-switched", b"carol", value=b"1"),
        said("admitted", b"carol", b"alice", b"x" * 64),
        said("user-deactivated", LONG),
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def workers(written: Ledger) -> Iterator[tuple[Worker, Worker]]:
    compiled = Worker(Reading(written.directory))
    with pytest.MonkeyPatch.context() as patch:
        for module in (app_reading, envs):
            patch.setattr(module, "trusted_core", lambda: None)
        plain = Worker(Reading(written.directory))
        plain.reading.refresh()
        for key in ("app", "other"):
            assert (app := plain.reading.app(key)) is not None and app.checks is None
        plain.reading.release()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gate.wire.checks.AT_ONCE_US", 10_000_000)  # there is no loop for what goes on in turns
        yield compiled, plain
    compiled.close()
    plain.close()


@pytest.fixture
def shadowed(written: Ledger, workers: tuple[Worker, Worker]) -> Iterator[tuple[Worker, Worker]]:
    written.commit(app_set(app_facts(exempt=frozenset(["star"]), shadow=True)))
    yield workers
    written.commit(app_set(app_facts(exempt=frozenset(["star"]))))


def cut(sent: bytes, cuts: list[int]) -> Iterator[bytes]:
    at = 0
    for size in cuts:
        if at < len(sent):
            yield sent[at : at + size]
        at += size
    if at < len(sent):
        yield sent[at:]


@given(streams, st.lists(st.integers(1, 90), max_size=40), st.binary(max_size=6), st.integers(0, 400))
@example(command("GATE.VERDICT", "bob", "alice") * 400, [16_384], b"", 0)
@settings(max_examples=examples(250), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_bytes_with_and_without(
    workers: tuple[Worker, Worker], sent: bytes, cuts: list[int], noise: bytes, where: int
) -> None:
    sent = sent[:where] + noise + sent[where:] if noise and where < len(sent) else sent
    compiled, plain = (outcome(worker, list(cut(sent, cuts))) for worker in workers)
    assert compiled == plain


@given(streams, st.lists(st.integers(1, 90), max_size=40))
@example(command("GATE.VERDICT", "bob", "alice") * 400, [16_384])
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_bytes_with_and_without_in_shadow_mode(
    shadowed: tuple[Worker, Worker], sent: bytes, cuts: list[int]
) -> None:
    compiled, plain = (outcome(worker, list(cut(sent, cuts))) for worker in shadowed)
    assert compiled == plain


def outcome(worker: Worker, pieces: list[bytes]) -> tuple[object, ...]:
    """Replies, whether the connection was closed, the counts of words, and of shadow mode."""
    before = Counter(worker.words)
    line = Line(worker)
    line.send(AUTH, *pieces)
    line.connection.connection_lost(None)
    words = Counter(worker.words) - before
    return line.transport.written, line.transport.closed, words, worker.reading.shadows.take()


@given(st.lists(checks | fan_outs | others, max_size=10).map(b"".join), st.binary(max_size=4), st.integers(0, 300))
@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_taken_is_whole_commands(workers: tuple[Worker, Worker], sent: bytes, noise: bytes, where: int) -> None:
    """The core consumes exactly the bytes that the exact parser parses as commands, and each has one reply."""
    sent = sent[:where] + noise + sent[where:]
    reading = workers[0].reading
    reading.refresh()
    app = reading.app("app")
    assert app is not None and app.checks is not None
    taken, written = app.checks.answer(sent, 0)
    reading.release()
    reader = StrictReader()
    commands = reader.feed(sent[:taken])
    assert reader.error is None and reader.pending == 0
    assert {args[0] for args in commands} <= {b"GATE.CHECK", b"GATE.VERDICT", b"GATE.MCHECK"}
    singles = [args for args in commands if args[0] != b"GATE.MCHECK"]
    arrays = [args for args in commands if args[0] == b"GATE.MCHECK"]
    assert written.count(b"*") == len(arrays)
    assert written.count(b":") + written.count(b"$") == len(singles) + sum(len(args) - 2 for args in arrays)


@pytest.mark.parametrize("is_cached", [False, True], ids=["first asked", "cached"])
def test_checks_of_possible_ids_are_answered_by_the_core_itself(
    workers: tuple[Worker, Worker], is_cached: bool
) -> None:
    """What it leaves is answered in Python, several times slower, and shows nowhere else."""
    people = [one for one in IDS if 1 <= len(one) <= 64]
    fan_outs = [command("GATE.MCHECK", sender, *people) for sender in people]
    pairs = [command("GATE.VERDICT", *pair) for pair in product(people, people)]
    reading = workers[0].reading
    reading.refresh()
    app = reading.app("app")
    assert app is not None and app.checks is not None
    for sent in (*fan_outs, *pairs, b"".join(pairs)):
        if not is_cached:
            app.checks.forget_all()
        line = Line(workers[1])
        line.send(AUTH)
        assert app.checks.answer(sent, 0) == (len(sent), line.send(sent))
    reading.release()


def test_a_user_whose_facts_can_not_be_read_is_left_to_the_caller(tmp_path: Path) -> None:
    """The caller reports the damage. A word would be wrong: without its facts, a recipient looks as if it had no lists."""
    ledger = Ledger(tmp_path / "replica", 1, app_facts())
    with ledger.file.write() as txn:
        txn.put(user_prefix(0) + b"torn", b"\x40\0\0\0\1")
    with Reading(ledger.directory) as reading:
        app = reading.app("app")
        assert app is not None and app.checks is not None
        for _ in range(2):
            for left in ("ann torn", "torn ann", "torn torn"):
                pair = command("GATE.CHECK", *left.split())
                assert app.checks.answer(pair, 0) == (0, b"")
                assert app.checks.answer(command("GATE.CHECK", "ann", "bob") + pair, 0)[1] == b":1\r\n"
            for many in ("ann bob torn", "ann torn", "torn ann bob"):
                assert app.checks.answer(command("GATE.MCHECK", *many.split()), 0) == (0, b"")
    reading.close()
    ledger.close()


def test_a_commit_is_seen_by_the_next_check(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "replica", 1, app_facts(), app_facts("other"))
    worker = Worker(Reading(ledger.directory))
    line = Line(worker)
    line.send(AUTH)
    pair = command("GATE.VERDICT", "bob", "alice")
    assert line.send(pair) == b"$7\r\nallowed\r\n"
    for times in (1, 3, 100):
        ledger.commit(said("ban-imposed", b"bob"))
        assert line.send(pair * times) == b"$13\r\nsender-banned\r\n" * times
        ledger.commit(said("ban-lifted", b"bob"))
        assert line.send(pair * times) == b"$7\r\nallowed\r\n" * times
    ledger.commit(app_set(app_facts(whitelists="on")))
    assert line.send(pair) == b"$15\r\nnot-whitelisted\r\n"
    worker.close()
    ledger.close()


def test_a_file_that_could_not_be_opened_is_tried_again(tmp_path: Path) -> None:
    """The old file names another, which is not there yet: the core must not go on by itself with the old one."""
    directory = tmp_path / "replica"
    old = Ledger(directory, 1, app_facts())
    with Replica.open(directory, app="app") as replica:
        assert replica.may_send("bob", "alice") and replica.may_send("bob", "alice")
        old.file.name_successor("facts-2.mdb")
        assert replica.may_send("bob", "alice") and replica.may_send("bob", "alice")
        new = Ledger(directory, 2, app_facts(), current=False)
        new.commit(said("ban-imposed", b"bob"))
        make_current(new.file.path)
        assert not replica.may_send("bob", "alice")
    new.close()
    old.close()
