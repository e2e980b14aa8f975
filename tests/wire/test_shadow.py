"""Shadow mode on the RESP port: every check answers `allowed` and is counted; EXPLAIN gives the verdict of the rules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import hiredis
import pytest

from gate import Replica
from gate.core.shadow import ShadowCounts
from gate.errors import Stale
from gate.replica.layout import BOARD_FILE
from gate.replica.reading import Reading
from gate.replica.status_page import StatusPage
from gate.wire import checks, replies
from gate.wire.client import Worker
from tests.replica.ledger import Ledger, app_facts, app_set, said, without_core
from tests.wire.conftest import SECRETS
from tests.wire.line import AUTH, Line, command
from tests.wire.peer import Peer, as_map
from tests.wire.test_fresh import aged

ALLOWED = replies.bulk(b"allowed")
DENIED = {("bob", "alice"): "blacklisted", ("eve", "bob"): "sender-banned", ("bob", "carol"): "not-whitelisted"}
PAIRS = [*DENIED, ("alice", "carol"), ("dora", "bob")]
CHECKED = [command("GATE.CHECK", *pair) for pair in PAIRS]
VERDICTS = [command("GATE.VERDICT", *pair) for pair in PAIRS]
FAN_OUT = command("GATE.MCHECK", "bob", "alice", "carol", "dora")


def switched(ledger: Ledger, on: bool, **settings: object) -> None:
    ledger.commit(app_set(app_facts("app", secrets=SECRETS, shadow=on, **settings)))


@pytest.fixture(params=["core", "python"])
def worker(ledger: Ledger, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    if request.param == "python":
        without_core(monkeypatch)
    made = Worker(Reading(ledger.directory))
    yield made
    made.close()


@pytest.fixture
def line(worker: Worker) -> Line:
    made = Line(worker)
    assert made.send(AUTH) == b"+OK\r\n"
    return made


def counted(worker: Worker) -> ShadowCounts:
    assert worker.words is not None  # takes what the core answered
    return worker.reading.shadows.take().get("app", ShadowCounts())


def test_each_check_is_answered_allowed_and_counted(line: Line, ledger: Ledger) -> None:
    worker = line.connection.worker
    assert line.send(CHECKED[0]) == b":0\r\n"
    switched(ledger, True)
    for one in CHECKED:
        assert line.send(one) == b":1\r\n"
    for one in VERDICTS:
        assert line.send(one) == ALLOWED
    assert line.send(b"".join(CHECKED)) == b":1\r\n" * 5
    assert line.send(b"".join(CHECKED + VERDICTS)) == b":1\r\n" * 5 + ALLOWED * 5
    assert line.send(FAN_OUT) == b"*3\r\n:1\r\n:1\r\n:1\r\n"
    assert line.send(command("GATE.CHECK", "bob", "alice", "MIN", str(ledger.revision))) == b":1\r\n"
    counts = counted(worker)
    # Five rounds of all pairs; the fan-out and the last check repeat two of them.
    rounds = 5
    assert counts.reasons == {"blacklisted": rounds + 2, "sender-banned": rounds, "not-whitelisted": rounds + 1}
    assert counts.pairs == {(b"bob", b"alice"): 7, (b"eve", b"bob"): 5, (b"bob", b"carol"): 6}
    assert counts.checks == rounds * len(PAIRS) + 3 + 1
    assert worker.words["allowed"] == counts.checks
    assert worker.words["blacklisted"] == 1


def test_a_transaction_is_answered_allowed(line: Line, ledger: Ledger) -> None:
    switched(ledger, True)
    replied = line.send(command("MULTI") + CHECKED[0] + FAN_OUT + command("EXEC"))
    assert replied.endswith(b"*2\r\n:1\r\n*3\r\n:1\r\n:1\r\n:1\r\n")
    assert counted(line.connection.worker).reasons == {"blacklisted": 2, "not-whitelisted": 1}


def test_explain_gives_the_verdict_of_the_rules_and_counts_nothing(worker: Worker, ledger: Ledger) -> None:
    peer = Peer(worker)
    assert peer("AUTH", "app", "secret") == b"OK"
    for on in (False, True):
        switched(ledger, on)
        for pair, word in DENIED.items():
            explained = as_map(peer("GATE.EXPLAIN", *pair))
            assert (explained["verdict"], explained["allowed"]) == (word.encode(), 0)
            assert (explained["shadow"], explained["answered"]) == (on, b"allowed" if on else word.encode())
        first, *_ = peer("GATE.EXPLAIN", "bob", "alice", "SHORT")
        assert first.startswith(b"blacklisted: bob may not message alice")
        assert first.endswith(b", the App is in shadow mode: a check answers allowed") is on
    assert counted(worker) == ShadowCounts()


def test_route_is_asked_for_the_places_of_a_denied_pair(line: Line, ledger: Ledger) -> None:
    route = command("GATE.ROUTE", "bob", "alice")
    assert line.send(route) == b"*2\r\n$11\r\nblacklisted\r\n*0\r\n"
    switched(ledger, True)
    # Without Presence, which this worker has not, the places of an allowed message can't be read.
    assert line.send(route).startswith(b"-UNAVAILABLE ")
    assert counted(line.connection.worker).reasons == {"blacklisted": 1}


def test_another_app_is_enforced(worker: Worker, ledger: Ledger) -> None:
    ledger.commit(said("ban-imposed", b"eve", app="other"))
    switched(ledger, True)
    line = Line(worker)
    assert line.send(command("AUTH", "other", "theirs")) == b"+OK\r\n"
    asked = command("GATE.VERDICT", "eve", "bob")
    for times in (1, 3):
        assert line.send(asked * times) == replies.bulk(b"sender-banned") * times
    assert line.send(command("GATE.MCHECK", "eve", "bob")) == b"*1\r\n:0\r\n"
    assert worker.reading.shadows.take() == {}


@pytest.mark.parametrize("times", [1, 3])
def test_switching_it_is_effective_with_the_next_check(line: Line, ledger: Ledger, times: int) -> None:
    for on in (True, False, True, False):
        switched(ledger, on)
        assert line.send(CHECKED[0] * times) == (b":1\r\n" if on else b":0\r\n") * times
    assert counted(line.connection.worker).reasons == {"blacklisted": 2 * times}
    assert line.connection.worker.words["blacklisted"] == 2 * times


def test_a_fact_that_changes_is_seen_in_shadow_mode(line: Line, ledger: Ledger) -> None:
    switched(ledger, True)
    assert line.send(CHECKED[-1] * 2) == b":1\r\n" * 2
    ledger.commit(said("ban-imposed", b"dora"))
    assert line.send(CHECKED[-1] * 2) == b":1\r\n" * 2
    assert counted(line.connection.worker).reasons == {"sender-banned": 2}


@pytest.mark.parametrize("compiled", [True, False])
def test_the_replica_in_process(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    if not compiled:
        without_core(monkeypatch)
    with Replica.open(ledger.directory, app="app") as replica, Replica.open(ledger.directory, app="other") as other:
        for pair in DENIED:
            assert not replica.may_send(*pair)
        modes = [replica.is_shadow]
        switched(ledger, True)
        modes.append(replica.is_shadow)
        assert (modes, other.is_shadow) == ([False, True], False)
        for pair, word in DENIED.items():
            assert replica.may_send(*pair)
            assert replica.verdict(*pair) == ("allowed", None)
            assert replica.explain(*pair)["verdict"] == word
        assert replica.may_send_many("bob", ["alice", "carol"]) == [True, True]
        assert replica.shadow_denials == {"blacklisted": 3, "sender-banned": 2, "not-whitelisted": 3}
        switched(ledger, False)
        assert not any(replica.may_send(*pair) for pair in DENIED)


# The failure policy of an App

LIMIT_MS = 5_000
REFUSED = b"-STALE the Replica is "


@pytest.fixture
def status_page(ledger: Ledger) -> Iterator[StatusPage]:
    made = StatusPage(ledger.directory / BOARD_FILE, write=True)
    made.use(1, ledger.file.identity)
    yield made
    made.close()


POLICIES = [
    # of the deployment in ms (0: serve), of the App, age; whether checks are answered
    (0, {}, 60_000, True),
    (LIMIT_MS, {}, 60_000, False),
    (LIMIT_MS, {"on_stale": "serve"}, 60_000, True),
    (LIMIT_MS, {"on_stale": "serve", "max_staleness_ms": 1}, 60_000, True),
    (0, {"on_stale": "refuse", "max_staleness_ms": LIMIT_MS}, 60_000, False),
    (0, {"on_stale": "refuse", "max_staleness_ms": LIMIT_MS}, 3_000, True),
    (LIMIT_MS, {"on_stale": "refuse", "max_staleness_ms": 90_000}, 60_000, True),
    (90_000, {"on_stale": "refuse", "max_staleness_ms": LIMIT_MS}, 60_000, False),
    (LIMIT_MS, {"max_staleness_ms": 90_000}, 60_000, True),
    (90_000, {"max_staleness_ms": LIMIT_MS}, 60_000, False),
    (0, {"max_staleness_ms": LIMIT_MS}, 60_000, True),
]


@pytest.mark.parametrize("shadow", [False, True])
@pytest.mark.parametrize(("deployment_ms", "policy", "age_ms", "is_answered"), POLICIES)
def test_an_app_overrides_the_policy_of_the_deployment(
    worker: Worker,
    ledger: Ledger,
    status_page: StatusPage,
    deployment_ms: int,
    policy: dict[str, object],
    age_ms: int,
    is_answered: bool,
    shadow: bool,
) -> None:
    worker.max_staleness_ms = deployment_ms
    aged(status_page, 0)
    line, other = Line(worker), Peer(worker)
    line.send(AUTH)
    other("AUTH", "other", "theirs")
    for settings in ({}, policy):  # the first for a connection that has seen another policy
        switched(ledger, shadow, **settings)
        assert not line.send(CHECKED[0]).startswith(REFUSED)
    aged(status_page, age_ms)
    for asked in (CHECKED[0], VERDICTS[0] * 3, FAN_OUT, command("GATE.CHECK", "bob", "alice", "FRESH", "99999")):
        replied = line.send(asked)
        assert replied.startswith(REFUSED) is not is_answered, replied
    by = b"App" if "max_staleness_ms" in policy else b"deployment"
    if not is_answered:
        assert b" and this " + by + b" refuses past " in line.send(CHECKED[0])
    is_refused = 0 < deployment_ms < age_ms
    assert isinstance(other("GATE.CHECK", "a", "b"), hiredis.ReplyError) is is_refused


def test_facts_exactly_as_old_as_the_limit_are_used(worker: Worker, ledger: Ledger) -> None:
    switched(ledger, False, on_stale="refuse", max_staleness_ms=LIMIT_MS)
    peer = Peer(worker)
    peer("AUTH", "app", "secret")
    app = peer.client.app_reading
    assert app is not None
    worker.refuse_stale_ms(app, LIMIT_MS)
    with pytest.raises(Stale, match="this App refuses past 5000 ms"):
        worker.refuse_stale_ms(app, LIMIT_MS + 1)


async def test_a_long_mcheck_counts_each_recipient_once(line: Line, ledger: Ledger) -> None:
    """Its first part is decided at once, and again with the rest in later turns."""
    switched(ledger, True)
    worker = line.connection.worker
    worker.begin()
    line.connection.client.app()
    later = checks.check_many_later(line.connection.client, "app", b"bob", [b"alice", b"carol", b"dora"])
    worker.reading.release()
    while not later.arrival.done():
        line.one_pass()
    assert later.word() == b"*3\r\n:1\r\n:1\r\n:1\r\n"
    counts = counted(worker)
    assert (counts.checks, counts.reasons) == (3, {"blacklisted": 1, "not-whitelisted": 1})


async def test_a_batch_past_a_slice_counts_each_recipient_once(
    line: Line, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    switched(ledger, True)
    monkeypatch.setattr(checks, "AT_ONCE_US", 0)
    line.send(command("GATE.MCHECK", "eve", *["alice"] * 400))
    async with asyncio.timeout(10):
        while not line.transport.written.endswith(b"*400\r\n" + b":1\r\n" * 400):
            line.one_pass()
            await asyncio.sleep(0)
    counts = counted(line.connection.worker)
    assert (counts.checks, counts.reasons) == (400, {"sender-banned": 400})
