"""Acknowledged means effective: two nodes, two hot workers each, thousands of flips, and no verdict older than its write.

Each flipper owns pairs of its own and turns their facts over by HTTP of both nodes. Once a write was answered `all`, it asks
every surface of both nodes at once. A watcher also asks about all pairs all the time: a verdict is wrong if it belongs
to a version older than the newest that was acknowledged before the question was asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, cycle
from math import ceil

import pytest

from gate import Replica
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.faults.calls import Answer, Http, Pair, Resp
from tests.faults.node import Node

EMPTIED_TIMES = 3
FLIPPERS = 3
FLIPS = 3_000
"""In all. Each is a write that two nodes apply, and some twenty questions."""
TIME_LIMIT_S = 60.0
"""Enough for a machine that runs the whole suite at the same time; alone the test takes a third of it."""
MOST_CONNECTIONS = 64
"""The kernel spreads connections over workers by a hash: that so many meet one worker is out of the question."""
LEASE_MS = 3_000
ACK_TIMEOUT_MS = 1_000


class Pairing:
    """One pair whose fact is flipped: version n denies if n is odd."""

    def __init__(self, kind: str, number: int) -> None:
        self.pair: Pair = (f"{kind}-sender-{number}", f"{kind}-owner-{number}")
        self.kind = kind
        self.started = 0
        self.acknowledged = 0

    def write(self, http: Http, denies: bool) -> Answer:
        sender, owner = self.pair
        if self.kind == "ban":
            return http.ban(sender) if denies else http.unban(sender)
        if self.kind == "blacklist":
            return http.block(owner, sender) if denies else http.unblock(owner, sender)
        return http.switch_whitelist(owner, denies)

    def word(self, version: int) -> str:
        denial = {"ban": "sender-banned", "blacklist": "blacklisted", "whitelist": "not-whitelisted"}[self.kind]
        return denial if version % 2 else "allowed"


class Witness:
    """Every surface of one node, for one thread: all its workers by RESP, HTTP both ways, and a Replica of its own."""

    def __init__(self, service: GateService) -> None:
        self.http = Http(service)
        self.workers = _one_each(service)
        self.replica = Replica.open(service.data, app=service.credentials.app_key)

    def asserts(self, pairing: Pairing, revision: str) -> None:
        """All surfaces give the word of the acknowledged version, at the first question."""
        word, (sender, owner) = pairing.word(pairing.acknowledged), pairing.pair
        bit = int(word == "allowed")
        for resp in self.workers:
            said = resp.ask_all(
                [
                    ("GATE.CHECK", sender, owner),
                    ("GATE.VERDICT", sender, owner),
                    ("GATE.MCHECK", sender, owner, owner),
                    ("GATE.CHECK", sender, owner, "MIN", revision),
                ]
            )
            assert said == [bit, word.encode(), [bit, bit], bit], (pairing.pair, pairing.acknowledged, said)
        assert self.replica.verdict(sender, owner).word == word
        assert self.replica.may_send(sender, owner) == bool(bit)

    def asserts_http(self, pairing: Pairing) -> None:
        word = pairing.word(pairing.acknowledged)
        assert self.http.check(pairing.pair)["verdict"] == word
        assert self.http.check_many([pairing.pair]) == [word]

    def close(self) -> None:
        self.http.close()
        self.replica.close()
        for resp in self.workers:
            resp.close()


_connecting = threading.Lock()


def _one_each(service: GateService) -> list[Resp]:
    """A connection to each of the two workers: the second is on the other one if the first one's worker did not count it."""
    with _connecting:
        first = Resp(service)
        for _ in range(MOST_CONNECTIONS):
            counted = _connections_of(first)
            second = Resp(service)
            if _connections_of(first) == counted:
                return [first, second]
            second.close()
    raise AssertionError(f"{MOST_CONNECTIONS} connections met one worker only")


def _connections_of(resp: Resp) -> str:
    lines = resp.ask("INFO", "stats").decode().splitlines()
    return next(str(line) for line in lines if line.startswith("total_connections_received"))


@pytest.fixture(scope="module")
def redis_between(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer.start("valkey-9", tmp_path_factory.mktemp("between"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def nodes(redis_between: RedisServer, start_module_service: Services) -> Iterator[list[Node]]:
    services = [start_module_service.start(redis_url=redis_between.url, workers=2) for _ in range(2)]
    nodes = [Node(service, redis_between.url) for service in services]
    yield nodes
    for node in nodes:
        node.close()


def test_no_verdict_is_older_than_an_acknowledged_write(nodes: list[Node]) -> None:
    kinds = ["ban", "blacklist", "whitelist"]
    pairings = [[Pairing(kind, number) for kind in kinds] for number in range(FLIPPERS)]
    ended = threading.Event()
    flippers = [_Guarded(partial(_flip, nodes, mine, ended), ended) for mine in pairings]
    watchers = [_Guarded(partial(_watch, node, list(chain(*pairings)), ended), ended) for node in nodes]
    began_s = time.monotonic()
    for flipper in flippers:
        flipper.join(TIME_LIMIT_S)
    ended.set()
    for watcher in watchers:
        watcher.join(TIME_LIMIT_S)
    took_s = time.monotonic() - began_s
    assert [one.fault for one in (*flippers, *watchers) if one.fault] == []
    assert sum(pairing.acknowledged for mine in pairings for pairing in mine) >= FLIPS, f"too slow: {took_s:.1f} s"
    for node in nodes:
        node.verify()


def _flip(nodes: list[Node], pairings: list[Pairing], ended: threading.Event) -> None:
    writers = [Http(node.service) for node in nodes]
    witnesses = [Witness(node.service) for node in nodes]
    turns = cycle(writers)
    spare = cycle(witnesses)
    for _ in range(ceil(FLIPS / FLIPPERS / len(pairings))):
        for pairing in pairings:
            if ended.is_set():
                return
            pairing.started += 1
            answer = pairing.write(next(turns), denies=bool(pairing.started % 2))
            assert (answer.status, answer.applied) == (200, "all"), answer
            pairing.acknowledged = pairing.started
            for witness in witnesses:
                witness.asserts(pairing, answer.revision)
            next(spare).asserts_http(pairing)
        next(turns)  # so that each fact is written by both nodes
    for http in writers:
        http.close()
    for witness in witnesses:
        witness.close()


def _watch(node: Node, pairings: list[Pairing], ended: threading.Event) -> None:
    """Each verdict must be of a version that was the newest at some moment while it was asked for."""
    asked = 0
    workers = _one_each(node.service)
    for resp in cycle(workers):
        if ended.is_set():
            break
        floors = [pairing.acknowledged for pairing in pairings]
        words = resp.ask_all([("GATE.VERDICT", *pairing.pair) for pairing in pairings])
        for pairing, floor, word in zip(pairings, floors, words, strict=True):
            possible = {pairing.word(version) for version in range(floor, pairing.started + 1)}
            assert word.decode() in possible, (pairing.pair, floor, pairing.started, word)
        asked += len(pairings)
        ended.wait(0.002)
    for resp in workers:
        resp.close()
    assert asked > FLIPS


class _Guarded:
    """A thread whose failure ends all of them, and is kept for the test to show."""

    def __init__(self, work: Callable[[], None], ended: threading.Event) -> None:
        self.fault: BaseException | None = None
        self._work = work
        self._ended = ended
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive() or self._ended.is_set(), "a flipper hangs"

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as fault:  # noqa: BLE001 - shown by the test
            self.fault = fault
            self._ended.set()


def test_a_demanded_revision_is_waited_for_or_refused(nodes: list[Node]) -> None:
    first, second = nodes
    with second.stopped("replicator"), Resp(second.service) as resp:
        answer = first.http.ban("demanded")
        assert answer.applied == "node", answer
        assert resp.ask("GATE.CHECK", "demanded", "x") == 1
        assert str(resp.ask("GATE.CHECK", "demanded", "x", "MIN", answer.revision)).startswith("STALE")
        behind = second.http.call("GET", f"/v1/check?from=demanded&to=x&min={answer.revision}")
        assert (behind.status, behind.body["error"]) == (409, "stale")
        assert first.http.check(("demanded", "x"), answer.revision)["verdict"] == "sender-banned"
    wait_until(lambda: second.http.check(("demanded", "x"))["verdict"] == "sender-banned", 10, "the other node")
    second.wait_whole()


def test_a_node_that_falls_silent_is_waited_for_until_its_lease_ends(nodes: list[Node]) -> None:
    first, second = nodes
    with second.stopped("replicator"):
        answer = first.http.ban("silent")
        assert (answer.status, answer.applied) == (200, "node")
        assert answer.ms < ACK_TIMEOUT_MS * 2
        assert first.http.check(("silent", "x"))["verdict"] == "sender-banned"
        second.wait_stale()
        assert first.stale_ms() == 0
        wait_until(lambda: first.http.ban("silent").applied == "all", 2 * LEASE_MS / 1_000 + 5, "its lease to end")
    second.wait_whole()
    second.asserts({("silent", "x"): "sender-banned"})


def test_all_holds_on_the_other_node_though_redis_was_emptied(nodes: list[Node], redis_between: RedisServer) -> None:
    """The list of live nodes is emptied too, and the first node is back before the second."""
    first, second = nodes
    for number in range(EMPTIED_TIMES):
        redis_between.client.flushall()
        applied: list[str | None] = []

        def is_all(number: int = number, applied: list[str | None] = applied) -> bool:
            user = f"emptied {number} {len(applied)}"
            answer = first.http.ban(user)
            check = second.http.check((user, "x"))
            applied.append(answer.applied)
            is_old_and_fresh = check["verdict"] != "sender-banned" and check["stale_ms"] == 0
            assert not (answer.applied == "all" and is_old_and_fresh), (applied, check)
            return answer.applied == "all"

        wait_until(is_all, 2 * LEASE_MS / 1_000 + 10, "the list to be complete again")
        assert "node" in applied
    second.wait_whole()


def test_a_write_is_pending_while_its_own_replicator_is_silent(nodes: list[Node]) -> None:
    first, second = nodes
    with first.stopped("replicator"):
        answer = first.http.ban("pending")
        assert (answer.status, answer.applied) == (200, "pending")
        assert answer.ms < ACK_TIMEOUT_MS * 2
        assert second.http.check(("pending", "x"))["verdict"] == "sender-banned"
    first.wait_whole()
    first.asserts({("pending", "x"): "sender-banned"})


def test_a_node_that_is_killed_is_waited_for_until_its_lease_ends(
    nodes: list[Node], start_service: Services, redis_between: RedisServer
) -> None:
    first = nodes[0]
    third = start_service.start(redis_url=redis_between.url)
    assert first.http.ban("killed").applied == "all"
    third.kill_all()
    answer = first.http.unban("killed")
    assert (answer.status, answer.applied) == (200, "node")
    assert first.http.check(("killed", "x"))["allowed"]
    wait_until(lambda: first.http.ban("killed").applied == "all", 2 * LEASE_MS / 1_000 + 5, "its lease to end")
    again = Node(start_service.start(data=third.data, redis_url=redis_between.url))
    again.asserts({("killed", "x"): "sender-banned"})
    assert first.http.unban("killed").applied == "all"
    again.asserts({("killed", "x"): "allowed"})
    again.close()
