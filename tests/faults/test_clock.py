"""The wall clock jumps: Bans end and begin again by it; waits, leases and ages are unaffected.

The real service runs on a wall clock that the test sets, in Python and in the compiled core alike. The monotonic clock and
Redis's own stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.faked_clock import FakedClock
from harness.servers import RedisServer
from harness.service import Services
from tests.faults.node import Node
from tests.faults.steady import Steady

HOUR_S = 3_600


@pytest.mark.parametrize("native", ["", "0"], ids=["as built", "in Python"])
def test_bans_end_by_the_wall_clock_and_nothing_else_does(
    start_service: Services, private_redis: RedisServer, tmp_path: Path, native: str
) -> None:
    clock = FakedClock(tmp_path / "clock")
    env = clock.env | ({"GATE_NATIVE": native} if native else {})
    node = Node(start_service.start(redis_url=private_redis.url, env=env))
    answer = node.http.call("POST", "/v1/bans", {"users": ["an hour"], "seconds": HOUR_S})
    assert answer.applied == "all", answer
    lasting = ("lasting", "x")
    assert node.http.call("POST", "/v1/bans", {"users": ["lasting"], "permanent": True}).applied == "all"
    banned, free = {("an hour", "x"): "sender-banned"}, {("an hour", "x"): "allowed"}
    node.asserts(banned)
    with Steady(node.service, {lasting: "sender-banned"}, without=["replica"]):
        for ahead_s, expected in ((2 * HOUR_S, free), (-2 * HOUR_S, banned), (24 * HOUR_S, free), (0, banned)):
            clock.step_to(ahead_s)
            node.asserts(expected)
            assert node.stale_ms() == 0
            assert node.http.ban("somebody").applied == "all"
        node.wait_whole()
