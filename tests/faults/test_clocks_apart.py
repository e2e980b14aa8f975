"""Clocks that differ: nothing is deleted before every clock has passed its end, and what differs is shown.

Real processes on clocks that the test sets: a node's, and Redis's own.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from gate.clock import wall_ms
from gate.store.store import Store
from harness.faked_clock import FakedClock
from harness.servers import RedisServer
from harness.service import Services
from harness.waiting import wait_until
from tests.faults.node import JSON_LOGS, Node
from tests.service.running import get, readyz

HOUR_S = 3_600
LASTS_S = 300
SWEEP_TIMEOUT_S = 30.0
"""Two looks a lease apart, and a round of the sweep, on a busy machine."""


def sweeps(node: Node, outcome: str) -> float:
    found = re.search(
        rf'^gate_sweeps_total{{outcome="{outcome}"}} (\S+)$', get(node.service, "/metrics")[1], re.MULTILINE
    )
    return float(found[1]) if found else 0.0


def wait_rounds(node: Node, outcome: str, rounds: int = 1) -> None:
    begun = sweeps(node, outcome)
    wait_until(lambda: sweeps(node, outcome) >= begun + rounds, SWEEP_TIMEOUT_S, f"{rounds} sweeps to be {outcome}")


def impose_lasting(node: Node) -> None:
    """A Ban, a Mute and a list entry that end long after the test."""
    for path, body in (
        ("/v1/bans", {"users": ["banned"], "seconds": LASTS_S}),
        ("/v1/mutes", {"users": ["muted"], "seconds": LASTS_S}),
        ("/v1/blacklist", {"owner": "owner", "members": ["blocked"], "seconds": LASTS_S}),
    ):
        answer = node.http.call("POST", path, body)
        assert answer.applied == "all", answer


def assert_lasting(node: Node) -> None:
    node.asserts(
        {("banned", "x"): "sender-banned", ("muted", "x"): "sender-muted", ("blocked", "owner"): "blacklisted"}
    )
    assert [row["user"] for row in node.http.call("GET", "/v1/bans").body["bans"]] == ["banned"]


async def leave_ended(url: str, app_key: str) -> None:
    """A Ban that has been over for longer than any margin."""
    store = await Store.connect(url)
    await store.bans.impose(app_key, [b"ended"], wall_ms() - 600_000, wall_ms() - 700_000)
    await store.aclose()


def is_swept(server: RedisServer) -> bool:
    return not any(
        b"ended" in server.client.zrange(key, 0, -1) for key in server.client.scan_iter(match=b"gate:*:bans:*")
    )


def test_a_node_whose_clock_is_wrong_deletes_nothing(
    start_service: Services, private_redis: RedisServer, tmp_path: Path
) -> None:
    ahead_s = 600
    right = Node(start_service.start(redis_url=private_redis.url))
    wrong_clock = FakedClock(tmp_path / "clock", ahead_s)
    wrong = Node(start_service.start(redis_url=private_redis.url, env={**wrong_clock.env, **JSON_LOGS}))
    assert right.service.app_key is not None
    impose_lasting(right)
    asyncio.run(leave_ended(private_redis.url, right.service.app_key))
    wait_rounds(wrong, "refused", 2)
    assert sweeps(wrong, "run") == 0
    wait_until(lambda: is_swept(private_redis), SWEEP_TIMEOUT_S, "the node whose clock is right to sweep")
    assert_lasting(right)
    for node in (right, wrong):
        status, body = readyz(node.service)
        assert (status, len(body["warnings"])) == (200, 1)
        assert re.fullmatch(r"clock of [0-9a-z-]+: \d+\.\d s ahead of Redis's", body["warnings"][0])
    (warning,) = wrong.logged("this node's clock differs from Redis's")
    assert abs(warning["ahead_ms"] - ahead_s * 1_000) < 1_000 and not warning["sweeps"]
    assert abs(wrong.metric("gate_clock_offset_seconds") - ahead_s) < 1
    assert abs(right.metric("gate_clock_offset_seconds")) < 1
    assert abs(right.metric("gate_clock_spread_seconds") - abs(ahead_s)) < 1


def test_steps_of_redis_clock_delete_nothing(
    start_service: Services, clocked_redis: RedisServer, redis_clock: FakedClock
) -> None:
    node = Node(start_service.start(redis_url=clocked_redis.url, env=JSON_LOGS))
    assert node.service.app_key is not None
    impose_lasting(node)
    wait_rounds(node, "run")
    for ahead_s in (2 * HOUR_S, -2 * HOUR_S):
        redis_clock.step_to(ahead_s)
        wait_until(
            lambda offset_ms=-1_000 * ahead_s: abs(node.metric("gate_clock_offset_ms") - offset_ms) < 1_000,  # type: ignore[misc]
            SWEEP_TIMEOUT_S,
            "the node to see the step",
        )
        asyncio.run(leave_ended(clocked_redis.url, node.service.app_key))
        wait_rounds(node, "refused")
        assert_lasting(node)
        assert not is_swept(clocked_redis)
    assert node.logged("this node's clock differs from Redis's")
    redis_clock.step_to(0)
    wait_until(lambda: is_swept(clocked_redis), SWEEP_TIMEOUT_S, "the sweep to go on once the clocks agree")
    assert_lasting(node)
