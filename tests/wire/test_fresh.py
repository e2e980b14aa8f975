"""`FRESH ms`: a check is answered only from facts that are young enough, whichever way it is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gate.clock import monotonic_ms
from gate.core.revision import Revision
from gate.errors import Stale
from gate.replica.layout import BOARD_FILE
from gate.replica.reading import Reading
from gate.replica.status_page import StatusPage
from gate.wire import checks, replies
from gate.wire.client import Worker
from gate.wire.commands import COMMANDS
from tests.replica.ledger import Ledger, said
from tests.wire.line import AUTH, Line, command

LIMIT_MS = 5_000
ANSWERS = {"GATE.CHECK": b":0\r\n", "GATE.VERDICT": replies.bulk(b"blacklisted")}
STALE = b"-STALE the Replica is "


@pytest.fixture
def status_page(ledger: Ledger) -> Iterator[StatusPage]:
    made = StatusPage(ledger.directory / BOARD_FILE, write=True)
    made.use(1, ledger.file.identity)
    yield made
    made.close()


def aged(status_page: StatusPage, age_ms: int) -> None:
    """As if the replicator had last been in touch with Redis so long ago."""
    status_page.stamp(monotonic_ms() - age_ms)


@pytest.fixture
def line(ledger: Ledger, status_page: StatusPage, request: pytest.FixtureRequest) -> Iterator[Line]:
    """On a worker whose age limit is the fixture's parameter, else 0."""
    worker = Worker(Reading(ledger.directory), max_staleness_ms=getattr(request, "param", 0))
    aged(status_page, 0)
    made = Line(worker)
    assert made.send(AUTH) == b"+OK\r\n"
    yield made
    worker.close()


CASES = [
    (0, "0", True),
    (900, "0", True),  # a second of grace, as everywhere
    (900, "1", True),
    (1_500, "0", False),
    (1_500, "1000", False),
    (1_500, "60000", True),
    (70_000, "60000", False),
    (70_000, "999999999999999", True),
]
WAYS: dict[str, Callable[[bytes], bytes]] = {
    "alone": lambda check: check,
    "in a pipeline": lambda check: check * 3,
    "among others": lambda check: check + command("PING") + check,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("keyword", ["FRESH", "fresh"])
@pytest.mark.parametrize("age_ms, within, answered", CASES)
def test_a_check_is_answered_only_from_facts_as_young_as_it_demands(
    line: Line, status_page: StatusPage, way: str, name: str, keyword: str, age_ms: int, within: str, answered: bool
) -> None:
    aged(status_page, age_ms)
    replied = line.send(WAYS[way](command(name, "bob", "alice", keyword, within)))
    lines = [one for one in replied.replace(b"$11\r\n", b"$11 ").splitlines(keepends=True) if b"PONG" not in one]
    assert len(lines) == {"alone": 1, "in a pipeline": 3, "among others": 2}[way]
    wanted = ANSWERS[name].replace(b"$11\r\n", b"$11 ") if answered else STALE
    assert all(one.startswith(wanted) for one in lines), replied


@pytest.mark.parametrize("times", [1, 3])
def test_both_fast_ways_answer_checks_that_demand_freshness(
    line: Line, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr("gate.wire.connection.answer", None)
    assert line.send(command("GATE.CHECK", "bob", "alice", "FRESH", "0") * times) == b":0\r\n" * times


@pytest.mark.parametrize("line", [LIMIT_MS], indirect=True)
@pytest.mark.parametrize("clause", [(), ("FRESH", "9000")])
@pytest.mark.parametrize("times", [1, 3])
def test_an_age_limit_keeps_the_fast_ways_and_is_held_by_them(
    line: Line, status_page: StatusPage, monkeypatch: pytest.MonkeyPatch, times: int, clause: tuple[str, ...]
) -> None:
    asked = command("GATE.CHECK", "bob", "alice", *clause) * times
    with monkeypatch.context() as patched:
        patched.setattr("gate.wire.connection.answer", None)
        for age_ms in (0, LIMIT_MS - 500):
            aged(status_page, age_ms)
            assert line.send(asked) == b":0\r\n" * times
    aged(status_page, LIMIT_MS + 500)
    refused = line.send(asked).splitlines()
    assert len(refused) == times
    assert all(b"this deployment refuses past 5000 ms" in one for one in refused)


def test_without_a_replicator_nothing_is_fresh(ledger: Ledger) -> None:
    worker = Worker(Reading(ledger.directory))
    line = Line(worker)
    line.send(AUTH)
    for times in (1, 3):
        assert line.send(command("GATE.CHECK", "a", "b", "FRESH", "999999999") * times).count(b"-STALE ") == times
    assert line.send(command("GATE.CHECK", "a", "b")) == b":1\r\n"
    worker.close()


EXPLAINED = command("GATE.EXPLAIN", "bob", "alice")
CHECKED = command("GATE.CHECK", "bob", "alice", "FRESH", "0")


@pytest.mark.parametrize("asked", [CHECKED, CHECKED * 3, EXPLAINED], ids=["alone", "in a pipeline", "explained"])
def test_the_age_is_read_before_the_facts(
    line: Line, status_page: StatusPage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, asked: bytes
) -> None:
    """A worker that is paused between the two may answer from newer facts than the age says, and never from older ones."""
    order = list[str]()
    worker = line.connection.worker
    for owner, name in ((worker, "stale_ms"), (worker.reading, "refresh")):
        original: Any = getattr(type(owner), name)

        def noted(self: object, original: Any = original, name: str = name) -> Any:
            order.append(name)
            return original(self)

        monkeypatch.setattr(type(owner), name, noted)
    replied = line.send(asked)
    assert b"blacklisted" in replied if asked == EXPLAINED else set(replied.splitlines()) == {b":0"}
    assert order[-2:] == ["stale_ms", "refresh"]


@pytest.mark.parametrize("line", [LIMIT_MS], indirect=True)
async def test_a_long_mcheck_is_held_to_the_age_of_its_own_reading(
    line: Line, status_page: StatusPage, ledger: Ledger
) -> None:
    """It reads through one of its own, which may have no way to a new file while the worker's has."""
    worker = line.connection.worker
    first = checks.check_many_later(line.connection.client, "app", b"bob", [b"alice"]).arrival
    while not first.done():
        line.one_pass()
    assert first.result() == ["blacklisted"]
    worker.long_reads.own_reading.is_followed = False  # type: ignore[union-attr]
    second = checks.check_many_later(line.connection.client, "app", b"bob", [b"alice"]).arrival
    while not second.done():
        line.one_pass()
    assert isinstance(second.exception(), Stale)


# With MIN


def _ahead(ledger: Ledger, by: int) -> Revision:
    return ledger.revision._replace(seq=ledger.revision.seq + by)


@pytest.mark.parametrize("is_fresh_first", [True, False])
@pytest.mark.parametrize("name", ANSWERS)
def test_min_and_fresh_go_together_in_either_order(
    line: Line, status_page: StatusPage, ledger: Ledger, name: str, is_fresh_first: bool
) -> None:
    clauses = [("MIN", str(ledger.revision)), ("FRESH", "2000")]
    words = [word for clause in (clauses[::-1] if is_fresh_first else clauses) for word in clause]
    asked = command(name, "bob", "alice", *words)
    assert line.send(asked) == ANSWERS[name]
    aged(status_page, 3_000)
    assert line.send(asked).startswith(STALE)


async def test_a_check_that_waits_for_its_revision_must_be_fresh_when_answered(
    line: Line, status_page: StatusPage, ledger: Ledger
) -> None:
    line.send(command("GATE.CHECK", "zoe", "alice", "MIN", str(_ahead(ledger, 1)), "FRESH", "2000"))
    aged(status_page, 3_000)
    ledger.commit(said("blocked", b"alice", b"zoe"))
    assert b"-STALE the Replica is " in await line.answered(20)


SYNTAX = b"-ERR syntax: expected MIN revision, FRESH ms or both after the two ids\r\n"


@pytest.mark.parametrize(
    "words, refusal",
    [
        (["FRESH"], SYNTAX),
        (["FRESH", "1", "FRESH", "1"], SYNTAX),
        (["FRESH", "1", "MIN"], SYNTAX),
        (["NEWER", "1"], SYNTAX),
        (["FRESH", "1", "NEWER", "1"], SYNTAX),
        (["FRESH", "soon"], b"-ERR FRESH: must be an age in ms, a whole number from 0, got 'soon'\r\n"),
        (["FRESH", "-1"], b"-ERR FRESH: must be an age in ms, a whole number from 0, got '-1'\r\n"),
        (["FRESH", ""], b"-ERR FRESH: must be an age in ms, a whole number from 0, got ''\r\n"),
        (["FRESH", "1" * 16], b"-ERR FRESH: must be an age in ms, a whole number from 0, got '1111111111111111'\r\n"),
        (
            ["FRESH", "1", "MIN", "1", "MIN", "1"],
            b"-ERR wrong number of arguments for 'gate.check' command: "
            b"expected GATE.CHECK from to [MIN revision] [FRESH ms]\r\n",
        ),
    ],
)
@pytest.mark.parametrize("times", [1, 3])
def test_what_is_no_clause_is_refused_with_what_it_may_be(
    line: Line, words: list[str], refusal: bytes, times: int
) -> None:
    assert line.send(command("GATE.CHECK", "bob", "alice", *words) * times) == refusal * times


def test_different_ages_in_one_pipeline_are_held_one_by_one(line: Line, status_page: StatusPage) -> None:
    aged(status_page, 3_000)
    asked = [command("GATE.CHECK", "bob", "alice", "FRESH", str(ms)) for ms in (9_000, 2_000, 9_000)]
    first, second, third = line.send(b"".join(asked)).splitlines()
    assert (first, third) == (b":0", b":0") and second.startswith(STALE)


def test_the_fast_ways_know_every_command_that_takes_the_clause() -> None:
    assert set(checks.HOT_REPLIES) == {name for name, row in COMMANDS.items() if row.most == 6}
