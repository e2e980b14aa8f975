"""The cluster under test: it starts in seconds, fails over, moves slots under load, grows and shrinks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import redis

from gate.store import keys
from harness.cluster_node import ClusterNode
from harness.clusters import SLOTS, ClusterSetup, partition_slot
from harness.servers import Flavor
from harness.waiting import wait_until

FLAVORS: tuple[Flavor, ...] = ("redis-7", "valkey-9")
START_MOST_S = 20.0
"""On a machine without other work it takes three seconds."""
KEYS = 300
USER = 7


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Flavor, ClusterSetup]]:
    setups: dict[Flavor, ClusterSetup] = {}
    for flavor in FLAVORS:
        began_s = time.monotonic()
        setups[flavor] = ClusterSetup.start(flavor, tmp_path_factory.mktemp(flavor))
        assert time.monotonic() - began_s < START_MOST_S
    yield setups
    for setup in setups.values():
        setup.stop()


@pytest.fixture(params=FLAVORS)
def cluster(request: pytest.FixtureRequest, started: dict[Flavor, ClusterSetup]) -> ClusterSetup:
    setup = started[request.param]
    setup.wait_whole()
    setup.empty()
    return setup


@pytest.fixture
def valkey_cluster(started: dict[Flavor, ClusterSetup]) -> ClusterSetup:
    setup = started["valkey-9"]
    setup.wait_whole()
    setup.empty()
    return setup


def test_has_three_masters_with_a_replica_each(cluster: ClusterSetup) -> None:
    assert len(cluster.masters) == 3
    assert [len(cluster.replicas_of(master)) for master in cluster.masters] == [1, 1, 1]
    assert sum(last - first + 1 for master in cluster.masters for first, last in master.own.slots) == SLOTS
    for partition in range(16):
        cluster.client.set(keys.meta(partition), "")
        assert cluster.owner_of(partition).client.exists(keys.meta(partition))
    cluster.empty()
    assert not any(node.client.dbsize() for node in cluster.masters)


def test_replica_takes_over_for_a_killed_master(cluster: ClusterSetup) -> None:
    old = cluster.masters[0]
    old.client.set(_key_of(cluster, old), "kept")
    old.client.wait(1, 5_000)
    old.kill()
    new = cluster.wait_promoted(old)
    assert new in cluster.masters and old not in cluster.masters
    assert new.client.get(_key_of(cluster, new)) == b"kept"
    old.launch()
    cluster.wait_whole()
    assert old in cluster.replicas_of(new)


@pytest.mark.parametrize("way", ["", "FORCE", "TAKEOVER"])
def test_replica_takes_over_by_command(valkey_cluster: ClusterSetup, way: str) -> None:
    old = valkey_cluster.masters[1]
    new = valkey_cluster.fail_over(old, way)  # type: ignore[arg-type]
    valkey_cluster.wait_whole()
    assert new in valkey_cluster.masters
    assert old in valkey_cluster.replicas_of(new)


def test_paused_master_is_replaced_and_comes_back(valkey_cluster: ClusterSetup) -> None:
    old = valkey_cluster.masters[0]
    old.pause()
    new = valkey_cluster.wait_promoted(old)
    assert valkey_cluster.owner(old_slot := new.own.slots[0][0]) is new
    old.resume()
    wait_until(lambda: not old.own.is_master, 20.0, "the old master to be a replica")
    valkey_cluster.wait_whole()
    assert valkey_cluster.owner(old_slot) is new


def test_partition_moves_under_writes(cluster: ClusterSetup) -> None:
    source, target = cluster.owner_of(0), next(node for node in cluster.masters if node is not cluster.owner_of(0))
    written, stop = [0], threading.Event()

    def write() -> None:
        with redis.RedisCluster(host="127.0.0.1", port=source.port) as client:
            while not stop.is_set():
                client.set(keys.user(0, "app", b"%d" % (written[0] % KEYS)), "")
                written[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    wait_until(lambda: written[0] >= KEYS, 20.0, "all keys")
    cluster.move_partition(0, target)
    moved_at = written[0]
    wait_until(lambda: written[0] > moved_at + KEYS, 20.0, "writes after the move")
    stop.set()
    thread.join()
    cluster.wait_whole()
    assert cluster.owner_of(0) is target
    assert (target.client.dbsize(), source.client.dbsize()) == (KEYS, 0)


def test_half_moved_slot_answers_with_ask(cluster: ClusterSetup) -> None:
    slot, source = partition_slot(0), cluster.owner_of(0)
    target = next(node for node in cluster.masters if node is not source)
    for number in range(KEYS):
        source.client.set(keys.user(0, "app", b"%d" % number), "")
    cluster.begin_move([slot], target)
    assert cluster.move_keys(slot, target, 10) == 10
    assert (source.client.dbsize(), target.client.dbsize()) == (KEYS - 10, 10)
    with pytest.raises(redis.exceptions.AskError):
        source.client.get(keys.user(0, "app", b"new"))
    assert cluster.move_keys(slot, target) == KEYS - 10
    cluster.end_move([slot], target)
    cluster.wait_whole()
    assert cluster.owner_of(0) is target


def test_master_is_added_and_removed(cluster: ClusterSetup) -> None:
    cluster.client.set(keys.meta(0), "kept")
    first = cluster.owner_of(0)
    added = cluster.add_master(replicas=1)
    assert not added.own.slots
    cluster.move_partition(0, added)
    cluster.wait_whole()
    assert len(cluster.masters) == 4 and cluster.owner_of(0) is added
    assert len(cluster.replicas_of(added)) == 1
    cluster.remove_master(added, first)
    assert len(cluster.masters) == 3 and cluster.owner_of(0) is first
    assert cluster.client.get(keys.meta(0)) == b"kept"


def test_slots_move_at_once(valkey_cluster: ClusterSetup) -> None:
    slot, source = partition_slot(0), valkey_cluster.owner_of(0)
    target = next(node for node in valkey_cluster.masters if node is not source)
    valkey_cluster.client.set(keys.meta(0), "kept")
    valkey_cluster.move_at_once(slot, slot, target)
    valkey_cluster.wait_whole()
    assert valkey_cluster.owner_of(0) is target
    assert target.client.get(keys.meta(0)) == b"kept"


def test_killed_master_that_returns_lacks_its_writes(valkey_cluster: ClusterSetup) -> None:
    master = valkey_cluster.masters[0]
    slots = master.own.slots
    master.client.set(_key_of(valkey_cluster, master), "lost")
    master.kill()
    master.launch()
    wait_until(lambda: master.state["cluster_state"] == "ok", 20.0, "the master to serve again")
    if master.own.is_master:  # it was back before its replica was elected
        assert master.own.slots == slots
        assert master.client.get(_key_of(valkey_cluster, master)) != b"lost"


def _key_of(cluster: ClusterSetup, node: ClusterNode) -> bytes:
    return next(keys.meta(number) for number in range(1_000) if node.own.owns(partition_slot(number)))
