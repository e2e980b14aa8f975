"""Redis hangs, dies, is cut off or far away: checks continue, writes are refused at once, and it recovers by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.cable import Cable
from harness.servers import RedisServer
from harness.service import Services
from harness.waiting import wait_until
from tests.faults.calls import Resp
from tests.faults.node import RECOVERY_TIMEOUT_S, Node
from tests.faults.steady import Steady

SLOW_MS = 200.0
MAX_STALENESS_MS = 1_500
MAX_SLOW_WRITE_MS = 2_500
"""Two round trips to a Redis that is 400 ms away, the wait for the node, and room for a busy machine."""

WRITES_FROM_AFAR = 5


class Site(NamedTuple):
    """A node, the Redis it uses, and the cable between them."""

    node: Node
    server: RedisServer
    cable: Cable


@pytest.fixture(scope="module")
def site(start_module_service: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    server = RedisServer.start("valkey-9", tmp_path_factory.mktemp("away"), aof=True)
    with Cable(server.port) as cable:
        service = start_module_service.start(redis_url=cable.url)
        yield Site(Node(service, server.url), server, cable)
        service.stop()
    server.stop()


@contextmanager
def _killed(site: Site) -> Iterator[None]:
    site.server.kill()
    yield
    site.server.restart()


Fault = Callable[[Site], AbstractContextManager[None]]

FAULTS: dict[str, tuple[Fault, bool]] = {
    "hangs": (lambda site: site.server.paused(), True),
    "is killed": (_killed, False),
    "is cut off": (lambda site: site.cable.cut_off(), False),
    "is behind a frozen cable": (lambda site: site.cable.frozen(), True),
}
"""By name: the fault, and whether the first write was certainly sent before it could be noticed."""


@pytest.mark.parametrize("name", FAULTS)
def test_redis(site: Site, name: str) -> None:
    fault, must_be_unknown = FAULTS[name]
    node = site.node
    expected = node.pairs(name)
    with Steady(node.service, expected):
        with fault(site):
            first = node.refusal_of("first")
            assert first.body.get("outcome") == "unknown" or not must_be_unknown, first
            node.wait_stale()
            assert node.metric("gate_replica_stale_seconds") > 0
        node.wait_whole()
    assert node.http.ban("first").applied == "all"
    node.asserts({**expected, ("first", "anyone"): "sender-banned"})


def test_a_slow_redis_makes_slow_writes_and_nothing_else(site: Site) -> None:
    node = site.node
    expected = node.pairs("slow")
    with Steady(node.service, expected):
        site.cable.delay_ms = SLOW_MS
        try:
            wait_until(lambda: node.http.ban("far").applied == "all", RECOVERY_TIMEOUT_S, "a write from far away")
            # On a busy machine any one of them may miss the deadline of the store, or the bound.
            answers = [node.http.unban("far") for _ in range(WRITES_FROM_AFAR)]
            assert {answer.status for answer in answers} <= {200, 503}, answers
            assert min(answer.ms for answer in answers if answer.status == 200) < MAX_SLOW_WRITE_MS, answers
            # It may be answered before this node has it, as `pending`; once it says `all`, a check can't miss it.
            settled = wait_until(
                lambda: one if (one := node.http.unban("far")).applied == "all" else None, RECOVERY_TIMEOUT_S, "a write"
            )
            assert node.http.check(("far", "x"), settled.revision)["allowed"]
            wait_until(
                lambda: node.stale_ms() == 0, RECOVERY_TIMEOUT_S, "facts that are fresh although Redis is far away"
            )
        finally:
            site.cable.delay_ms = 0.0
        node.wait_whole()
    node.asserts(expected)


def test_a_deployment_may_refuse_to_decide_from_old_facts(
    start_service: Services, private_redis: RedisServer, tmp_path: Path
) -> None:
    service = start_service.start(
        *("--on-stale", "refuse", "--max-staleness-ms", str(MAX_STALENESS_MS)), redis_url=private_redis.url
    )
    node = Node(service, private_redis.url)
    expected = node.pairs("refusing")
    with Resp(service) as resp:
        with private_redis.paused():
            assert resp.ask("GATE.VERDICT", "refusing banned", "x") == b"sender-banned"
            refusal = wait_until(
                lambda: said if isinstance(said := resp.ask("GATE.CHECK", "a", "b"), Exception) else None, 5, "STALE"
            )
            assert str(refusal).startswith("STALE")
            assert str(resp.ask("GATE.MCHECK", "a", "b", "c")).startswith("STALE")
            answer = node.http.call("GET", "/v1/check?from=a&to=b")
            assert (answer.status, answer.body["error"]) == (503, "stale")
        wait_until(lambda: resp.ask("GATE.CHECK", "a", "b") == 1, RECOVERY_TIMEOUT_S, "checks to be answered again")
    node.wait_whole()
    node.asserts(expected)
