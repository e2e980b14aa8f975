"""A whole service on a Redis Cluster: facts, Presence, failovers, moves of slots, and what the command line does there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gate.clock import wall_ms
from gate.core import token
from gate.core.model import AppFacts
from gate.core.revision import DEFAULT_PARTITIONS, partition_of
from harness.cluster_node import ClusterNode
from harness.clusters import ClusterSetup
from harness.servers import RedisServer
from harness.service import GateService, Services
from harness.waiting import wait_until
from tests.cli.command import Command

BACK_S = 30.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterSetup]:
    setup = ClusterSetup.start("valkey-9", tmp_path / "redis")
    yield setup
    setup.stop()


@pytest.fixture
def service(cluster: ClusterSetup, start_service: Services) -> GateService:
    return start_service.start(redis_url=cluster.url)


@pytest.fixture
def gate(service: GateService) -> Command:
    return Command(service.data, app=service.credentials.app_key)


def accepted(gate: Command, *words: str) -> bool:
    return gate(*words, status=None).status == 0


def is_everywhere(gate: Command, *words: str) -> bool:
    """Whether a write is called effective on every node: not in the first seconds, nor just after a slot moved."""
    return "effective on every live node" in gate(*words).out


def user_of(gate: Command, cluster: ClusterSetup, master: ClusterNode) -> str:
    """A User whose Partition is at that master."""
    assert gate.app is not None
    names = (f"user-{number}" for number in range(1_000))
    return next(
        name for name in names if cluster.owner_of(partition_of(gate.app, name.encode(), DEFAULT_PARTITIONS)) is master
    )


def connect(service: GateService, user: str) -> bytes:
    """Of the Gateway edge-1; the id of the Session."""
    app = AppFacts(key=service.credentials.app_key, secrets=(service.credentials.app_secret,))
    minted = token.mint(app, user.encode(), wall_ms(), os.urandom(8))
    with service.resp_client() as client:
        client.execute_command("GATE.LEASE", "edge-1", "1")
        session: bytes = client.execute_command("GATE.CONNECT", minted, "iOS", "edge-1")
    return session


def connects(service: GateService, user: str) -> bool:
    """Whether a connect is accepted now."""
    try:
        connect(service, user)
    except redis.ResponseError as refusal:
        assert str(refusal).startswith("UNAVAILABLE"), refusal
        return False
    return True


def is_online(service: GateService, user: str) -> bool:
    with service.resp_client() as client:
        try:
            found: list[int] = client.execute_command("GATE.ONLINE", user)
        except redis.ResponseError as refusal:
            assert str(refusal).startswith("UNAVAILABLE"), refusal
            return False
    return found == [1]


def test_a_ban_denies_closes_and_outlives_a_failover(
    cluster: ClusterSetup, service: GateService, gate: Command
) -> None:
    gate("blacklist", "add", "bob", "ann")
    assert gate("check", "ann", "bob", status=1).out.startswith("blacklisted")
    connect(service, "carl")
    assert is_online(service, "carl")
    wait_until(lambda: is_everywhere(gate, "ban", "carl", "--for", "1h"), BACK_S, "the list of nodes to settle")
    wait_until(lambda: not is_online(service, "carl"), BACK_S, "the Ban to close the Session")
    dying = cluster.masters[0]
    user, other = (user_of(gate, cluster, master) for master in cluster.masters[:2])
    dying.kill()
    assert accepted(gate, "ban", other, "--for", "1h"), "another master's Partition"
    wait_until(lambda: accepted(gate, "ban", user, "--for", "1h"), BACK_S, "a write at the new master")
    assert gate("check", user, "bob", status=1).out.startswith("sender-banned")
    assert gate("check", "carl", "bob", status=1).out.startswith("sender-banned")
    dying.launch()
    cluster.wait_whole()


def test_a_node_starts_on_its_replica_while_a_master_is_away(
    cluster: ClusterSetup, service: GateService, gate: Command, start_service: Services
) -> None:
    gate("ban", "ann", "--for", "1h")
    service.stop()
    away = cluster.masters[1]
    followers = cluster.replicas_of(away)
    for node in (away, *followers):
        node.pause()
    again = start_service.start(data=service.data, redis_url=cluster.url, wait=False)
    wait_until(lambda: gate("check", "ann", "bob", status=None).status == 1, BACK_S, "a check from the Replica")
    for node in (away, *followers):
        node.resume()
    again.wait_ready(BACK_S * 2)
    wait_until(lambda: accepted(gate, "ban", "bob", "--for", "1h"), BACK_S, "writes again")


def test_partitions_move_to_a_master_that_was_added(cluster: ClusterSetup, service: GateService, gate: Command) -> None:
    gate("ban", "ann", "--for", "1h")
    connect(service, "dora")
    added = cluster.add_master()
    for partition in range(0, DEFAULT_PARTITIONS, 2):
        cluster.move_partition(partition, added)
    wait_until(lambda: accepted(gate, "ban", user_of(gate, cluster, added), "--for", "1h"), BACK_S, "a write there")
    moved = user_of(gate, cluster, added)
    wait_until(
        lambda: is_everywhere(gate, "mute", moved, "--for", "1h"), BACK_S, "the marks of the new master to settle"
    )
    assert is_online(service, "dora")
    assert gate("replica", "verify", "--json").json["equal"]
    assert gate.json("replica", "status")["state"] == "current"
    found = gate("doctor").out
    assert "ok   Redis Cluster: 4 masters, 3 replicas, 16,384 of 16,384 slots covered" in found
    assert f"Redis server 127.0.0.1:{added.port}: primary of 8 slots, 0 replicas" in found


def test_presence_on_a_cluster_of_its_own(
    cluster: ClusterSetup, private_redis: RedisServer, start_service: Services
) -> None:
    service = start_service.start("--presence-redis", cluster.url, redis_url=private_redis.url)
    gate = Command(service.data, service.credentials.app_key, private_redis.url)
    gate("app", "set", service.credentials.app_key, "--presence-slices", "4")
    connect(service, "ann")
    assert is_online(service, "ann")
    held = [master for master in cluster.masters if list(master.client.scan_iter("gate:{*}:sessions"))]
    assert held and not list(private_redis.client.scan_iter("gate:{*}:sessions"))
    held[0].client.wait(1, 5_000)
    held[0].kill()
    cluster.wait_promoted(held[0])
    wait_until(lambda: connects(service, "bob"), BACK_S, "a connect at the new master")
    wait_until(lambda: is_online(service, "bob") and is_online(service, "ann"), BACK_S, "both to be online")
    gate("ban", "ann", "--for", "1h")
    wait_until(lambda: not is_online(service, "ann"), BACK_S, "the Ban to close the Session")


def test_the_doctor_has_a_line_for_each_server(cluster: ClusterSetup, service: GateService, gate: Command) -> None:
    for node in cluster.nodes:
        node.client.config_set("appendonly", "yes")
        node.client.config_set("min-replicas-to-write", 1)
    found = gate("doctor").out
    assert found.count("ok   Redis server 127.0.0.1:") == 6
    replica = cluster.replicas[0]
    replica.client.config_set("maxmemory-policy", "allkeys-lru")
    odd = cluster.masters[0]
    odd.client.config_set("appendonly", "no")
    found = gate("doctor", status=1).out
    assert f"fail Redis server 127.0.0.1:{replica.port}: replica of" in found
    assert "set maxmemory-policy noeviction" in found
    assert f"warn Redis server 127.0.0.1:{odd.port}: primary of" in found
    lost = cluster.masters[1]
    followers = cluster.replicas_of(lost)
    for node in (lost, *followers):
        node.kill()
    found = wait_until(lambda: _without_slots(gate), BACK_S, "the doctor to see that slots have no master")
    assert f"fail Redis server 127.0.0.1:{lost.port}: cannot reach" in found


def _without_slots(gate: Command) -> str:
    found = gate("doctor", status=1).out
    return found if "of 16,384 slots covered\n     start the master that is away" in found else ""


def test_an_import_and_the_proof_of_an_erasure(gate: Command, tmp_path: Path) -> None:
    lists = tmp_path / "lists.ndjson"
    lists.write_text(
        "".join(f'{{"kind":"blacklist","owner":"o{number}","members":["ann","bob"]}}\n' for number in range(3_000))
    )
    wait_until(lambda: is_everywhere(gate, "mute", "carl", "--for", "1h"), BACK_S, "the list of nodes to settle")
    imported = gate.json("import", str(lists))
    assert (imported["entries"], imported["applied"]) == (6_000, "all")
    gate("check", "ann", "o7", status=1)
    found = {row["place"]: row["times"] for row in gate.json("user", "erasure-proof", "bob")["found"]}
    assert found["blacklists of others"] == 3_000, "of all masters"
    assert gate("user", "erasure-proof", "stranger").out == "the id is nowhere\n"


def test_the_demo_runs_on_a_cluster() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--cluster", "--json"], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    assert '"sender-banned": 1033' in done.stdout
