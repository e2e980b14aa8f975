"""`gate.Replica` for any program: threads, processes, swaps under load, refusals, and nothing left open."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.clock import monotonic_ms, wall_ms
from gate.errors import AppUnknown, InvalidInput, ReplicaError, ReplicaForeign, ReplicaMissing
from gate.replica import envs
from gate.replica.files import delete_facts
from gate.replica.layout import BOARD_FILE
from gate.replica.reader import Replica, app_of, explained
from gate.replica.reading import Reading
from gate.replica.status_page import StatusPage
from harness.waiting import wait_until
from tests.replica.ledger import Ledger, app_facts, app_set, said


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "replica", 1, app_facts())
    made.commit(said("blocked", b"alice", b"bob"), said("ban-imposed", b"eve", until_ms=1 << 50))
    yield made
    made.close()
    assert envs.open_count(tmp_path) == 0


@pytest.fixture
def replica(ledger: Ledger) -> Iterator[Replica]:
    with Replica.open(ledger.directory.parent, app="app") as opened:
        yield opened


def test_the_ways_to_ask_agree(replica: Replica) -> None:
    assert replica.may_send("alice", "bob") and replica.may_send(b"alice", b"bob")
    assert not replica.may_send("bob", b"alice")
    assert replica.verdict("bob", "alice") == ("blacklisted", None)
    assert replica.verdict("eve", "alice") == ("sender-banned", 1 << 50)
    assert replica.may_send_many("bob", ["alice", b"eve", "zoe"]) == [False, True, True]
    assert replica.may_send_many("bob", []) == []


def test_explain_names_the_revisions_it_rests_on(ledger: Ledger, replica: Replica) -> None:
    explained = replica.explain("bob", "alice")
    assert (explained["verdict"], explained["allowed"]) == ("blacklisted", False)
    assert explained["revisions"] == [str(ledger.revision)]
    assert [rule["rule"] for rule in explained["rules"] if rule["denies"]] == ["blacklisted"]


def test_explain_agrees_with_the_verdict_on_an_id_that_is_no_text(ledger: Ledger) -> None:
    ledger.commit(said("blocked", b"alice", b"\xff\x00"))
    node = Reading(ledger.directory)
    with node as snapshot:
        answer = explained(snapshot, "app", b"\xff\x00", b"alice")
        verdict = app_of(snapshot, "app").decide(b"\xff\x00", b"alice", wall_ms())
    assert (answer["verdict"], answer["from"]) == (verdict.word, "\\xff\x00")
    node.close()


@pytest.mark.parametrize("bad", ["", b"", "x" * 65, b"x" * 65, "é" * 33, "\ud800", 7, None, bytearray(b"a"), ["a"]])
def test_what_is_no_id_is_refused(replica: Replica, bad: object) -> None:
    odd: str = bad  # type: ignore[assignment]
    for _ in range(2):
        with pytest.raises(InvalidInput):
            replica.may_send(odd, "alice")
        with pytest.raises(InvalidInput):
            replica.may_send("eve", odd)
        with pytest.raises(InvalidInput):
            replica.verdict("alice", odd)
        with pytest.raises(InvalidInput):
            replica.may_send_many("eve", ["alice", odd])
        with pytest.raises(InvalidInput):
            replica.explain(odd, "alice")


def test_a_commit_is_seen_by_the_next_check(ledger: Ledger, replica: Replica) -> None:
    for number in range(50):
        ledger.commit(said("blocked" if number % 2 else "unblocked", b"alice", b"bob"))
        assert replica.may_send("bob", "alice") == (number % 2 == 0)


def test_an_app_that_is_removed_is_unknown(ledger: Ledger, replica: Replica) -> None:
    assert replica.may_send("alice", "bob")
    ledger.commit(said("app-removed"))
    for _ in range(2):
        with pytest.raises(AppUnknown):
            replica.may_send("alice", "bob")
        with pytest.raises(AppUnknown):
            replica.may_send_many("alice", ["bob"])


def test_opening_says_what_is_missing(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(AppUnknown):
        Replica.open(ledger.directory, app="stranger")
    with pytest.raises(InvalidInput):
        Replica.open(ledger.directory, app="no body")
    with pytest.raises(ReplicaMissing):
        Replica.open(tmp_path / "elsewhere", app="app")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "facts-1.mdb").write_bytes(b"\xff" * 100_000)
    (foreign / "current").write_text("facts-1.mdb")
    with pytest.raises(ReplicaForeign):
        Replica.open(foreign, app="app")
    (foreign / "current").write_text("../../etc/passwd")
    with pytest.raises(ReplicaForeign):
        Replica.open(foreign, app="app")
    assert envs.open_count(tmp_path) == 1, "the ledger's own"


def test_after_close_every_use_says_so(ledger: Ledger) -> None:
    replica = Replica.open(ledger.directory, app="app")
    other_thread_asks = threading.Event()
    closed = threading.Event()
    outcome: list[str] = []

    def other_thread() -> None:
        replica.may_send("alice", "bob")
        other_thread_asks.set()
        closed.wait(10)
        try:
            replica.may_send("alice", "bob")
        except ReplicaError as refusal:
            outcome.append(str(refusal))

    thread = threading.Thread(target=other_thread)
    thread.start()
    assert other_thread_asks.wait(10)
    replica.close()
    replica.close()
    closed.set()
    thread.join(10)
    assert outcome == ["this Replica was closed"]
    for use in (
        lambda: replica.may_send("a", "b"),
        lambda: replica.verdict("a", "b"),
        lambda: replica.may_send_many("a", ["b"]),
        lambda: replica.status,
    ):
        with pytest.raises(ReplicaError, match="closed"):
            use()
    node = Reading(ledger.directory)
    node.close()
    node.close()
    with pytest.raises(ReplicaError, match="closed"), node:
        pass


def test_two_replicas_on_one_path_share_the_file_and_close_alone(ledger: Ledger) -> None:
    first, second = (Replica.open(ledger.directory, app="app") for _ in range(2))
    assert envs.open_count(ledger.directory) == 1
    first.close()
    assert not second.may_send("bob", "alice")
    second.close()


@pytest.mark.slow
def test_a_thread_that_ends_gives_its_place_back(ledger: Ledger) -> None:
    def readings() -> int:
        gc.collect()
        return sum(type(one) is Reading for one in gc.get_objects())

    before = readings()
    replica = Replica.open(ledger.directory, app="app")
    wrong: list[bool] = []
    for _ in range(50):
        thread = threading.Thread(target=lambda: wrong.append(replica.may_send("bob", "alice")))
        thread.start()
        thread.join(10)
    assert wrong == [False] * 50
    assert readings() == before + 1, "this thread's"
    replica.close()


def test_a_replica_that_is_forgotten_closes_itself(tmp_path: Path) -> None:
    Ledger(tmp_path / "r", 1, app_facts()).close()
    Replica.open(tmp_path / "r", app="app").may_send("a", "b")
    gc.collect()
    assert envs.open_count(tmp_path) == 0


def test_status_without_and_with_a_replicator(ledger: Ledger, replica: Replica) -> None:
    assert (replica.status.state, replica.status.ready) == ("stopped", False)
    assert replica.status.applied == (ledger.revision,)
    status_page = StatusPage(ledger.directory / BOARD_FILE, write=True)
    status_page.put(state=2, ready=1)
    status_page.use(1, ledger.file.identity)
    status_page.stamp(monotonic_ms())
    assert replica.status[:3] == ("current", True, 0)
    status_page.close()


def test_another_process_sees_each_commit(ledger: Ledger) -> None:
    program = (
        "import sys\nfrom gate.replica.reader import Replica\n"
        "replica = Replica.open(sys.argv[1], app='app')\n"
        "for line in sys.stdin:\n    print(replica.verdict('bob', 'alice').word, flush=True)\n"
    )
    arguments = [sys.executable, "-c", program, str(ledger.directory)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdin is not None and asker.stdout is not None

        def asked() -> str:
            print(file=asker.stdin, flush=True)
            return asker.stdout.readline().strip()  # type: ignore[union-attr]

        assert asked() == "blacklisted"
        ledger.commit(said("unblocked", b"alice", b"bob"))
        assert asked() == "allowed"
        ledger.commit(app_set(app_facts(require_registered=True)))
        assert asked() == "sender-unknown"
        fresh = Ledger(ledger.directory, 2, app_facts(), current=False)
        ledger.replace(fresh)
        assert asked() == "allowed"
        fresh.close()
        asker.stdin.close()
    assert asker.returncode == 0


@pytest.mark.slow
def test_files_are_replaced_under_four_threads(tmp_path: Path) -> None:
    """What never changes is right in every answer; every thread has seen the last file in the end."""
    directory = tmp_path / "replica"
    ledger = _generation(directory, 1)
    status_page = StatusPage(directory / BOARD_FILE, write=True)
    replica = Replica.open(directory, app="app")
    faults: list[object] = []
    checks = [0] * 4
    stop = threading.Event()

    def check(number: int) -> None:
        try:
            while not stop.is_set():
                if replica.may_send("bob", "alice") or not replica.may_send("alice", "bob"):
                    faults.append("a wrong answer")
                if replica.may_send_many("bob", ["alice", "zoe"]) != [False, True]:
                    faults.append("a wrong answer to many")
                checks[number] += 1
            if not replica.may_send("last", "alice"):
                checks[number] = 0
        except Exception as fault:  # noqa: BLE001 (a thread's failure is the main thread's to show)
            faults.append(fault)

    threads = [threading.Thread(target=check, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for generation in range(2, 40):
        fresh = _replacement(directory, generation, ledger)
        status_page.put(generation=generation)
        ledger.close()
        ledger = fresh
        _checked_by_all(checks, faults)
    ledger.commit(said("blocked", b"alice", b"last"))
    stop.set()
    for thread in threads:
        thread.join(20)
    assert faults == []
    assert checks == [0] * 4, "the last commit in the last file is seen by all"
    replica.close()
    ledger.close()
    status_page.close()
    assert envs.open_count(tmp_path) == 0


def _checked_by_all(checks: list[int], faults: list[object]) -> None:
    at = list(checks)
    wait_until(lambda: faults or all(a < b for a, b in zip(at, checks, strict=True)), 20, "checks go on")


def _generation(directory: Path, generation: int) -> Ledger:
    ledger = Ledger(directory, generation, app_facts(), current=generation == 1)
    ledger.commit(said("blocked", b"alice", b"bob"))
    return ledger


def _replacement(directory: Path, generation: int, old: Ledger) -> Ledger:
    fresh = _generation(directory, generation)
    old.replace(fresh)
    delete_facts(old.file.path)
    return fresh


def test_explain_asks_every_rule_in_order(replica: Replica, ledger: Ledger) -> None:
    node = Reading(ledger.directory)
    with node as snapshot:
        words = [rule["rule"] for rule in explained(snapshot, "app", b"eve", b"alice")["rules"]]
        assert words[2] == app_of(snapshot, "app").decide(b"eve", b"alice", wall_ms()).word
    assert len(words) == 8
    node.close()
