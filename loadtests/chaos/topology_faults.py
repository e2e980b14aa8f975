"""Faults of Sentinels, of a cluster and of their servers: the rows that `faults.FAULTS` lacks, by topology.

Each ends once everything is whole again, so that no two of them overlap. A failover may lose what its new primary had not
received; it reports this to the ledger, which knows what a durable write still demands.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from gate.core.revision import DEFAULT_PARTITIONS
from harness import partitions
from harness.cluster_node import ClusterNode
from harness.clusters import ClusterSetup
from harness.sentinels import SentinelSetup
from harness.servers import RedisServer
from loadtests.chaos.faults import OF_NODES, Scene, Skipped, Table
from loadtests.chaos.schedule import Kind
from loadtests.chaos.topologies import ClusterSite, SentinelSite

LAG_S = 3.0
"""A replica that is linked is behind by less than this."""


def _lately() -> tuple[float, float]:
    now_s = time.monotonic()
    return (now_s - LAG_S, now_s)


@contextmanager
def _losing(scene: Scene) -> Iterator[None]:
    """Writes that a failover in the block loses are not demanded. At its end the old primary accepts no more writes."""
    scene.ledger.losing(_lately())
    try:
        yield
    finally:
        scene.ledger.lost()


@contextmanager
def _cut_off(server: RedisServer, others: Sequence[RedisServer]) -> Iterator[str]:
    """The server is cut off from the others, and clients still reach it; where that is not possible it hangs."""
    if not partitions.is_apart():
        with server.paused():
            yield "SIGSTOP"
        return
    here, there = [server.host], [other.host for other in others]
    partitions.cut(here, there)
    try:
        yield "partition"
    finally:
        partitions.mend(here, there)


# ---- Sentinels


def _setup(scene: Scene) -> SentinelSetup:
    assert isinstance(scene.deployment, SentinelSite)
    return scene.deployment.setup


def _sentinel_primary_killed(scene: Scene) -> Iterator[str]:
    setup = _setup(scene)
    setup.wait_whole()
    with _losing(scene):
        old = setup.primary
        old.kill()
        new = setup.wait_switched(old)
        yield f"{old.port} -> {new.port}"
        old.restart()
        setup.wait_whole()


def _sentinel_failover(scene: Scene) -> Iterator[str]:
    setup = _setup(scene)
    setup.wait_whole()
    with _losing(scene):
        old = setup.primary
        setup.fail_over(is_whole=True)
        new = setup.wait_switched(old)
        yield f"{old.port} -> {new.port}"
        setup.wait_whole()


def _sentinel_two(scene: Scene) -> Iterator[str]:
    """A failover by command, and the new primary dies as soon as it is one."""
    setup = _setup(scene)
    setup.wait_whole()
    with _losing(scene):
        old = setup.primary
        setup.fail_over(is_whole=True)
        new = setup.wait_switched(old)
        new.kill()
        third = setup.wait_switched(new)
        yield f"{old.port} -> {new.port} -> {third.port}"
        new.restart()
        setup.wait_whole()


def _sentinel_primary_and_sentinel(scene: Scene) -> Iterator[str]:
    setup = _setup(scene)
    setup.wait_whole()
    with _losing(scene):
        old, sentinel = setup.primary, scene.chance.choice(setup.sentinels)
        sentinel.kill()
        old.kill()
        new = setup.wait_switched(old)
        yield f"{old.port} -> {new.port}"
        sentinel.launch()
        old.restart()
        setup.wait_whole()


def _sentinel_cut_off(scene: Scene) -> Iterator[str]:
    setup = _setup(scene)
    setup.wait_whole()
    with _losing(scene):
        old = setup.primary
        others = [one for one in (*setup.servers, *setup.sentinels) if one is not old]
        with _cut_off(old, others) as way:
            new = setup.wait_switched(old)
            yield f"{old.port} -> {new.port}, {way}"
        setup.wait_whole()


def _sentinel_primary_hangs(scene: Scene) -> Iterator[str]:
    setup = _setup(scene)
    setup.wait_whole()
    with _losing(scene):
        old = setup.primary
        with old.paused():
            new = setup.wait_switched(old)
            yield f"{old.port} -> {new.port}"
        setup.wait_whole()


def _sentinel_replica_lags(scene: Scene) -> Iterator[str]:
    setup = _setup(scene)
    with ExitStack() as stack:
        chosen = setup.replicas[: scene.chance.choice((1, 2))]
        for replica in chosen:
            stack.enter_context(replica.paused())
        yield f"{len(chosen)}"
    setup.wait_whole()


def _sentinel_majority_lost(scene: Scene) -> Iterator[str]:
    """Two Sentinels die; sometimes the primary after them, and no failover happens until they are back."""
    setup = _setup(scene)
    setup.wait_whole()
    with _losing(scene):
        old, lost = setup.primary, scene.chance.sample(setup.sentinels, 2)
        is_primary_too = scene.chance.random() < 0.4
        for sentinel in lost:
            sentinel.kill()
        if is_primary_too:
            old.kill()
        yield "and the primary" if is_primary_too else ""
        for sentinel in lost:
            sentinel.launch()
        if is_primary_too:
            setup.wait_switched(old)
            old.restart()
        setup.wait_whole()


# ---- a cluster


def _cluster(scene: Scene) -> ClusterSetup:
    assert isinstance(scene.deployment, ClusterSite)
    return scene.deployment.setup


def _master(cluster: ClusterSetup, chance: random.Random) -> ClusterNode:
    """One that has a replica."""
    masters = [master for master in cluster.masters if cluster.replicas_of(master)]
    if not masters:
        raise Skipped("no master has a replica")
    return chance.choice(masters)


def _cluster_master_killed(scene: Scene) -> Iterator[str]:
    cluster = _cluster(scene)
    cluster.wait_whole()
    with _losing(scene):
        old = _master(cluster, scene.chance)
        old_port = old.port
        promoted = cluster.replicas_of(old)
        old.kill()
        new = cluster.wait_promoted(old, promoted)
        yield f"{old_port} -> {new.port}"
        old.launch()
        cluster.wait_whole()


def _cluster_failover(scene: Scene) -> Iterator[str]:
    """By command, with the master's help: nothing is lost."""
    cluster = _cluster(scene)
    cluster.wait_whole()
    new = cluster.fail_over(_master(cluster, scene.chance))
    yield f"to {new.port}"
    cluster.wait_whole()


def _cluster_failover_forced(scene: Scene) -> Iterator[str]:
    cluster = _cluster(scene)
    cluster.wait_whole()
    with _losing(scene):
        way = scene.chance.choice(("FORCE", "TAKEOVER"))
        new = cluster.fail_over(_master(cluster, scene.chance), "FORCE" if way == "FORCE" else "TAKEOVER")
        yield f"{way} to {new.port}"
        cluster.wait_whole()


def _cluster_two(scene: Scene) -> Iterator[str]:
    """One master dies while another one is failed over by command."""
    cluster = _cluster(scene)
    cluster.wait_whole()
    with _losing(scene):
        masters = [master for master in cluster.masters if cluster.replicas_of(master)]
        if len(masters) < 2:
            raise Skipped("fewer than two masters have a replica")
        dying, other = scene.chance.sample(masters, 2)
        followers = cluster.replicas_of(dying)
        other_followers = cluster.replicas_of(other)
        other_followers[0].ask("FAILOVER", "FORCE")
        dying.kill()
        cluster.wait_promoted(dying, followers)
        cluster.wait_promoted(other, other_followers)
        yield f"{dying.port} and {other.port}"
        dying.launch()
        cluster.wait_whole()


def _cluster_cut_off(scene: Scene) -> Iterator[str]:
    cluster = _cluster(scene)
    cluster.wait_whole()
    with _losing(scene):
        old = _master(cluster, scene.chance)
        followers = cluster.replicas_of(old)
        with _cut_off(old, [node for node in cluster.nodes if node is not old]) as way:
            new = cluster.wait_promoted(old, followers)
            yield f"{old.port} -> {new.port}, {way}"
        cluster.wait_whole()


def _cluster_master_hangs(scene: Scene) -> Iterator[str]:
    cluster = _cluster(scene)
    cluster.wait_whole()
    with _losing(scene):
        old = _master(cluster, scene.chance)
        followers = cluster.replicas_of(old)
        with old.paused():
            new = cluster.wait_promoted(old, followers)
            yield f"{old.port} -> {new.port}"
        cluster.wait_whole()


def _cluster_replica_lags(scene: Scene) -> Iterator[str]:
    cluster = _cluster(scene)
    replica = scene.chance.choice(cluster.replicas)
    with replica.paused():
        yield f"{replica.port}"
    cluster.wait_whole()


def _cluster_slots_moved(scene: Scene) -> Iterator[str]:
    """One to three Partitions, each to another master, key by key; Valkey also all at once."""
    cluster = _cluster(scene)
    cluster.wait_whole()
    chosen = scene.chance.sample(range(DEFAULT_PARTITIONS), scene.chance.randrange(1, 4))
    ways = []
    for partition in chosen:
        slot = cluster.slot_of(partition)
        target = scene.chance.choice([node for node in cluster.masters if node is not cluster.owner(slot)])
        is_at_once = scene.chance.random() < 0.4
        if is_at_once:
            cluster.move_at_once(slot, slot, target)
        else:
            cluster.move_partition(partition, target)
        ways.append(f"{partition}{' at once' if is_at_once else ''}")
    yield ", ".join(ways)
    cluster.wait_whole()


def _cluster_master_added(scene: Scene) -> Iterator[str]:
    """It takes three Partitions, and gives them back before it is removed."""
    cluster = _cluster(scene)
    cluster.wait_whole()
    added = cluster.add_master()
    try:
        for partition in scene.chance.sample(range(DEFAULT_PARTITIONS), 3):
            cluster.move_partition(partition, added)
        yield f"{added.port}"
    finally:
        target = scene.chance.choice([node for node in cluster.masters if node is not added])
        cluster.remove_master(added, target)


SENTINEL_FAULTS: Table = {
    **OF_NODES,
    #                               weight  shortest  longest  domain   rest  per node
    "Redis primary killed":        (Kind(12, 0.1, 1.0, "server", 3.0, False), _sentinel_primary_killed),
    "Redis failover":              (Kind(12, 0.1, 0.5, "server", 3.0, False), _sentinel_failover),
    "Redis two failovers":         (Kind(6, 0.1, 0.5, "server", 6.0, False), _sentinel_two),
    "Redis primary and Sentinel":  (Kind(5, 0.1, 1.0, "server", 4.0, False), _sentinel_primary_and_sentinel),
    "Redis primary cut off":       (Kind(12, 0.5, 3.0, "server", 3.0, False), _sentinel_cut_off),
    "Redis primary hangs":         (Kind(8, 0.5, 2.0, "server", 3.0, False), _sentinel_primary_hangs),
    "Redis replica lags":          (Kind(8, 0.5, 3.0, "server", 0.5, False), _sentinel_replica_lags),
    "Sentinel majority lost":      (Kind(6, 0.5, 4.0, "server", 3.0, False), _sentinel_majority_lost),
}  # fmt: skip
CLUSTER_FAULTS: Table = {
    **OF_NODES,
    #                               weight  shortest  longest  domain   rest  per node
    "Redis primary killed":        (Kind(12, 0.1, 1.0, "server", 3.0, False), _cluster_master_killed),
    "Redis failover":              (Kind(8, 0.1, 0.5, "server", 1.0, False), _cluster_failover),
    "Redis failover, forced":      (Kind(8, 0.1, 0.5, "server", 1.0, False), _cluster_failover_forced),
    "Redis two failovers":         (Kind(6, 0.1, 0.5, "server", 4.0, False), _cluster_two),
    "Redis primary cut off":       (Kind(10, 0.5, 3.0, "server", 3.0, False), _cluster_cut_off),
    "Redis primary hangs":         (Kind(8, 0.5, 2.0, "server", 3.0, False), _cluster_master_hangs),
    "Redis replica lags":          (Kind(6, 0.5, 3.0, "server", 0.5, False), _cluster_replica_lags),
    "Redis slots moved":           (Kind(14, 0.1, 0.5, "server", 0.5, False), _cluster_slots_moved),
    "Redis master added":          (Kind(5, 0.5, 1.5, "server", 3.0, False), _cluster_master_added),
}  # fmt: skip
TOPOLOGY_FAULTS: dict[str, Table] = {"sentinel": SENTINEL_FAULTS, "cluster": CLUSTER_FAULTS}
