"""Every process of a node dies, one by one and all at once: the others continue, it restarts, no acknowledged write is lost."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.faults.calls import Http, Pair, Resp
from tests.faults.node import RECOVERY_TIMEOUT_S, Node
from tests.faults.steady import Steady
from tests.service.running import kill

WORKERS = 2
CONNECTIONS = 16
"""Over two workers: that one of them has none is one chance in 32,000."""
ANSWERS_WITHIN_S = 5.0
"""From the start of the first process to the first check: half a second on an idle machine, which this one is not."""
WRITES_BEFORE_DEATH = 100


@pytest.fixture(scope="module")
def node(start_module_service: Services) -> Node:
    return Node(start_module_service.start(workers=WORKERS))


def test_the_replicator_is_killed(node: Node) -> None:
    expected = node.pairs("replicator")
    with Steady(node.service, expected):
        os.kill(node.pid("replicator"), signal.SIGKILL)
        answer = node.http.ban("meanwhile")
        assert answer.status == 200
        assert answer.applied in ("all", "pending")
        node.wait_whole()
    node.asserts({**expected, ("meanwhile", "x"): "sender-banned"})


def test_a_hot_worker_is_killed(node: Node) -> None:
    """Its own connections end; those of the other one notice nothing."""
    expected = node.pairs("worker")
    connections = [Resp(node.service) for _ in range(CONNECTIONS)]
    with Steady(node.service, expected, without=["resp"]):
        os.kill(next(one.pid for one in node.service.processes() if "worker-0" in one.command), signal.SIGKILL)
        survivors = [resp for resp in connections if _answers(resp)]
        assert 0 < len(survivors) < CONNECTIONS
        assert {resp.ask("GATE.VERDICT", "worker banned", "x") for resp in survivors} == {b"sender-banned"}
        assert node.http.ban("after the worker").applied == "all"
        assert {resp.ask("GATE.CHECK", "after the worker", "x") for resp in survivors} == {0}
        node.wait_whole()
    for resp in connections:
        resp.close()
    wait_until(lambda: len(_workers(node)) == WORKERS, RECOVERY_TIMEOUT_S, "another worker")
    node.asserts(expected)


def _answers(resp: Resp) -> bool:
    try:
        return bool(resp.ask("PING") == b"PONG")
    except ConnectionError:
        return False


def _workers(node: Node) -> list[int]:
    return [one.pid for one in node.service.processes() if "gate.service.role worker" in one.command]


def test_http_is_killed(node: Node) -> None:
    expected = node.pairs("http")
    with Steady(node.service, expected, without=["http"]):
        kill(node.service, "http")
        wait_until(lambda: _accepts(node), RECOVERY_TIMEOUT_S, "HTTP to answer again")
        node.wait_whole()
    node.asserts(expected)


def _accepts(node: Node) -> bool:
    try:
        return node.http.call("GET", "/healthz").status == 200
    except OSError:
        return False


def test_the_background_worker_is_killed(node: Node) -> None:
    expected = node.pairs("background")
    with Steady(node.service, expected):
        os.kill(node.pid("background"), signal.SIGKILL)
        assert node.http.ban("behind its back").applied == "all"
        node.wait_whole()
    node.asserts(expected)


def test_the_embedded_server_is_killed(node: Node) -> None:
    expected = node.pairs("embedded")
    with Steady(node.service, expected):
        os.kill(node.pid("redis"), signal.SIGKILL)
        answer = node.http.ban("meanwhile too")
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        node.wait_whole()
    assert node.http.ban("meanwhile too").applied == "all"
    node.asserts({**expected, ("meanwhile too", "x"): "sender-banned"})


def test_all_of_it_is_killed_while_it_is_written_to(start_service: Services) -> None:
    """What was acknowledged is there again, from the Replica on disk before anything else is up."""
    service = start_service.start()
    written = _write_until_killed(service, "in flight")
    expected: dict[Pair, str] = {(user, "x"): "sender-banned" for user in written}
    began_s = time.monotonic()
    again = start_service.start(data=service.data, resp_port=service.resp_port, wait=False)
    words = wait_until(lambda: _first_words(again, list(expected)), RECOVERY_TIMEOUT_S, "a first answer")
    took_s = time.monotonic() - began_s
    assert words == list(expected.values())
    assert took_s < ANSWERS_WITHIN_S
    again.wait_ready()
    node = Node(again)
    node.asserts(expected)
    node.wait_whole()
    node.close()


def _write_until_killed(service: GateService, name: str) -> list[str]:
    """The Users whose Ban was acknowledged before the whole node was killed in the middle of more."""
    acknowledged: list[str] = []
    caller = Http(service)

    def write() -> None:
        try:
            for number in range(100_000):
                user = f"{name} {number}"
                if caller.ban(user).applied == "all":
                    acknowledged.append(user)
        except OSError:
            return

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    wait_until(lambda: len(acknowledged) >= WRITES_BEFORE_DEATH, RECOVERY_TIMEOUT_S, "some acknowledged writes")
    service.kill_all()
    writer.join(RECOVERY_TIMEOUT_S)
    caller.close()
    return acknowledged


def _first_words(service: GateService, pairs: list[Pair]) -> list[str] | None:
    """None as long as no process listens."""
    try:
        with Resp(service) as resp:
            return [word.decode() for word in resp.ask_all([("GATE.VERDICT", *pair) for pair in pairs])]
    except ConnectionError:
        return None
