"""A whole service behind Sentinels: checks go on through failovers, facts stay, writes work at each new primary."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.sentinels import SentinelSetup
from harness.service import Checking, Services
from harness.waiting import wait_until
from tests.cli.command import Command

SLOWEST_MS = 25
"""By the 99th percentile: on a machine that runs other tests the slowest of all says little."""
BACK_S = 10.0


def accepted(gate: Command, *words: str) -> bool:
    return gate(*words, status=None).status == 0


@pytest.mark.parametrize("sentinel_setup", ["redis-7", "valkey-9"], indirect=True)
def test_facts_and_checks_outlive_failovers(sentinel_setup: SentinelSetup, start_service: Services) -> None:
    service = start_service.start("--redis", sentinel_setup.url, "--presence-redis", f"{sentinel_setup.url}/1")
    gate = Command(service.data, app=service.credentials.app_key)
    gate("blacklist", "add", "bob", "ann")
    gate("check", "ann", "bob", status=1)
    sentinel_setup.wait_whole()
    checking = Checking(service)
    first = sentinel_setup.primary
    sentinel_setup.fail_over()
    second = sentinel_setup.wait_switched(first)
    wait_until(lambda: accepted(gate, "ban", "carl", "--for", "1h"), BACK_S, "a write at the second primary")
    sentinel_setup.wait_whole()
    second.kill()
    third = sentinel_setup.wait_switched(second)
    wait_until(lambda: accepted(gate, "ban", "dora", "--for", "1h"), BACK_S, "a write at the third primary")
    gate("check", "carl", "eve", status=1)
    gate("check", "dora", "eve", status=1)
    gate("online", "bob", status=1)  # offline: Presence was asked
    p99_ms = checking.end()
    print(f"{len(checking.took_ms)} checks: p99 {p99_ms:.1f} ms, slowest {max(checking.took_ms):.1f} ms")
    assert checking.answers == {0}, "blocked all the time"
    assert p99_ms <= SLOWEST_MS
    found = gate("doctor", status=1).out  # the primary that was killed is named
    assert f"ok   Redis Sentinels: 3 of 3 answer, the primary is 127.0.0.1:{third.port}" in found
    assert f"ok   Presence Redis Sentinels: 3 of 3 answer, the primary is 127.0.0.1:{third.port}" in found
    assert "warn Redis replicas: 1 replica, " in found
    assert "min-replicas-to-write 0" in found


def test_the_doctor_names_what_is_wrong_with_sentinels(sentinel_setup: SentinelSetup, tmp_path: Path) -> None:
    doctor = Command(tmp_path / "no-node", "some-app", sentinel_setup.url)
    for server in sentinel_setup.servers:
        server.client.config_set("min-replicas-to-write", 1)
    found = doctor("doctor", status=1).out
    assert "ok   Redis replicas: 2 replicas, " in found and "min-replicas-to-write 1" in found
    one, two, _ = sentinel_setup.sentinels
    one.kill()
    found = doctor("doctor", status=1).out
    assert "warn Redis Sentinels: 2 of 3 answer" in found and f"cannot reach redis://127.0.0.1:{one.port}" in found
    two.kill()
    wait_until(
        lambda: "NOQUORUM" in doctor("doctor", status=1).out, BACK_S, "the last Sentinel to see that it is alone"
    )
    found = doctor("doctor", status=1).out
    assert "fail Redis Sentinels: 1 of 3 answer" in found
    assert "no failover would happen: start the Sentinels that --redis names" in found
    assert "ok   Redis: " in found, "which works as long as the primary does"


def test_the_doctor_has_a_line_for_each_server(sentinel_setup: SentinelSetup, tmp_path: Path) -> None:
    doctor = Command(tmp_path / "no-node", "some-app", sentinel_setup.url)
    primary, (one, other) = sentinel_setup.primary, sentinel_setup.replicas
    for server in sentinel_setup.servers:
        server.client.config_set("appendonly", "yes")
        server.client.config_set("min-replicas-to-write", 1)
    found = doctor("doctor", status=1).out
    assert f"ok   Redis server 127.0.0.1:{primary.port}: primary, 2 replicas, Redis 7." in found
    for replica in (one, other):
        assert f"ok   Redis server 127.0.0.1:{replica.port}: replica of 127.0.0.1:{primary.port}, " in found
    one.client.config_set("maxmemory-policy", "volatile-lru")
    other.kill()
    found = doctor("doctor", status=1).out
    assert f"fail Redis server 127.0.0.1:{one.port}: replica of" in found
    assert "maxmemory-policy volatile-lru" in found and "set maxmemory-policy noeviction" in found
    assert f"fail Redis server 127.0.0.1:{other.port}: cannot reach redis://127.0.0.1:{other.port}" in found
    for sentinel in sentinel_setup.sentinels:  # as a user with the least rights
        sentinel.client.execute_command("ACL", "SETUSER", "default", "-sentinel|replicas")
    found = doctor("doctor", status=1).out
    assert f"Redis server 127.0.0.1:{one.port}: replica of" in found
