"""A Redis or Valkey Cluster of real servers: masters with replicas each, started in about three seconds on free ports.

The harness joins the nodes itself, with plain commands. Each operation waits until the nodes that run have carried it out.
Used by the cluster fixtures in `tests/conftest.py`, by fault tests, and by the load tests.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import redis
from redis.crc import key_slot

from gate.store import keys
from harness.cluster_node import ClusterNode, Seen
from harness.partitions import apart_host
from harness.ports import LOOPBACK
from harness.servers import START_TRIES, Flavor, StartFailed
from harness.tls import Certificate
from harness.waiting import wait_until

SLOTS = 16_384
NODE_TIMEOUT_MS = 1_000
"""A master that was silent this long is failed over; its replica is elected 0.5 to 1 s after that."""
START_TIMEOUT_S = 30.0
"""A start takes about three seconds: a new master waits two before it serves."""
AGREE_TIMEOUT_S = 40.0
FAILOVER_GIVEN_UP_S = 6.0
"""A server gives up a commanded failover after 5 s, e.g. if the replica did not catch up; then the command is repeated."""
KEYS_AT_ONCE = 100
MIGRATE_TIMEOUT_MS = 5_000

Way = Literal["", "FORCE", "TAKEOVER"]


class ClusterClient(redis.RedisCluster):
    """redis-py's client, except for KEYS, which that sends to one server."""

    def keys(self, pattern: Any = "*", **_: Any) -> Any:
        """Of all masters."""
        masters = self.get_primaries()  # type: ignore[no-untyped-call]
        return [key for node in masters for key in self.get_redis_connection(node).keys(pattern)]


class ClusterSetup:
    """`start` it, `stop` it. `nodes` are in the order of their start: the first masters first, then their replicas."""

    def __init__(
        self,
        flavor: Flavor,
        directory: Path,
        node_timeout_ms: int,
        extra: Sequence[str],
        are_apart: bool,
        certificate: Certificate | None = None,
    ) -> None:
        self.nodes: list[ClusterNode] = []
        self._made = 0
        self._flavor = flavor
        self._directory = directory
        self._node_timeout_ms = node_timeout_ms
        self._extra = tuple(extra)
        self._are_apart = are_apart
        self._certificate = certificate
        self._client: redis.RedisCluster | None = None

    @classmethod
    def start(
        cls,
        flavor: Flavor,
        directory: Path,
        *,
        masters: int = 3,
        replicas: int = 1,
        node_timeout_ms: int = NODE_TIMEOUT_MS,
        extra: Sequence[str] = (),
        are_apart: bool = False,
        certificate: Certificate | None = None,
    ) -> ClusterSetup:
        """`replicas` is the number of each master. `extra` are further options of every server; `certificate` for TLS.

        `are_apart` gives each an address of its own, for `partitions`.
        """
        setup = cls(flavor, directory, node_timeout_ms, extra, are_apart, certificate)
        try:
            for _ in range(masters * (1 + replicas)):
                setup._launch_node()
            for epoch, node in enumerate(setup.nodes, 1):
                node.ask("SET-CONFIG-EPOCH", epoch)  # otherwise nodes with equal epochs resolve that by messages
            bounds = [round(SLOTS * number / masters) for number in range(masters + 1)]
            for number, master in enumerate(setup.nodes[:masters]):
                master.ask("ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            setup._meet(list(combinations(setup.nodes, 2)))
            for number, replica in enumerate(setup.nodes[masters:]):
                replica.ask("REPLICATE", setup.nodes[number % masters].own.id)
            setup.wait_whole(START_TIMEOUT_S)
        except BaseException:
            setup.stop()
            raise
        return setup

    @property
    def url(self) -> str:
        """For Gate, with all nodes that run."""
        hosts = ",".join(f"{node.host}:{node.port}" for node in self.nodes if node.is_running)
        return f"redis+cluster://{hosts}"

    def tls_url(self, *options: str) -> str:
        """The same for the TLS ports; `options` as in a URL."""
        hosts = ",".join(f"{node.host}:{node.tls_port}" for node in self.nodes if node.is_running)
        return f"rediss+cluster://{hosts}?{'&'.join(options)}"

    @property
    def is_running(self) -> bool:
        """Whether any node runs."""
        return any(node.is_running for node in self.nodes)

    @property
    def client(self) -> redis.RedisCluster:
        """A synchronous client for the test itself, with raw bytes, which asks the master of each key."""
        if self._client is None:
            self._client = ClusterClient(host=self._answering[0].host, port=self._answering[0].port)
        return self._client

    @property
    def masters(self) -> list[ClusterNode]:
        """Those with slots, by the newest claim to each, in the order of their first slots."""
        return [node for _, node in sorted(self._claims(), key=lambda claim: claim[0].slots)]

    @property
    def replicas(self) -> list[ClusterNode]:
        """Those that answer and follow a master."""
        return [node for node in self._answering if not node.own.is_master]

    def replicas_of(self, master: ClusterNode) -> list[ClusterNode]:
        """Those that answer and follow `master`, which may be dead."""
        its_id = self._id_of(master)
        return [node for node in self._answering if node.own.master_id == its_id]

    def owner(self, slot: int) -> ClusterNode:
        """The master of a slot, by the newest claim of the nodes that answer."""
        # While a slot is handed over there may be a moment without a claim.
        claims = wait_until(partial(self._claims_to, slot), AGREE_TIMEOUT_S, f"a master of slot {slot}")
        return max(claims, key=lambda claim: claim[0])[1]

    def slot_of(self, partition: int) -> int:
        """The slot of every key of a Partition."""
        return partition_slot(partition)

    def owner_of(self, partition: int) -> ClusterNode:
        """The master of a Partition."""
        return self.owner(partition_slot(partition))

    def wait_whole(self, timeout_s: float = AGREE_TIMEOUT_S) -> None:
        """Until every node that answers serves all slots, agrees on their masters, and every replica gets writes."""
        wait_until(self._is_whole, timeout_s, "the nodes of the cluster to agree")

    def fail_over(self, master: ClusterNode, way: Way = "") -> ClusterNode:
        """`CLUSTER FAILOVER` at the first replica of `master`: that replica, once it is the master.

        Without `way` the master takes part; FORCE goes without it, TAKEOVER also without the other masters.
        """
        replica = self.replicas_of(master)[0]
        asked_at_s = -FAILOVER_GIVEN_UP_S

        def is_promoted() -> bool:
            nonlocal asked_at_s
            own = replica.own
            if not own.is_master and time.monotonic() - asked_at_s > FAILOVER_GIVEN_UP_S:
                replica.ask("FAILOVER", *([way] if way else []))
                asked_at_s = time.monotonic()
            return own.is_master and bool(own.slots)

        wait_until(is_promoted, AGREE_TIMEOUT_S, "the replica to be promoted")
        return replica

    def wait_promoted(self, old: ClusterNode, followers: Sequence[ClusterNode] = ()) -> ClusterNode:
        """Until one of `followers`, else of the replicas of `old`, which died or is cut off, has its slots; that one."""
        followers = followers or self.replicas_of(old)
        wait_until(lambda: any(node.own.slots for node in followers), AGREE_TIMEOUT_S, "a replica to be elected")
        return next(node for node in followers if node.own.slots)

    def begin_move(self, slots: Sequence[int], target: ClusterNode) -> None:
        """Mark `slots`, all of one master, as being moved: a missing key is answered with ASK."""
        source = self.owner(slots[0])
        self._set_slots(target, slots, "IMPORTING", self._id_of(source))
        self._set_slots(source, slots, "MIGRATING", self._id_of(target))

    def move_keys(self, slot: int, target: ClusterNode, most: int | None = None) -> int:
        """Move keys of a slot that is being moved: all, or at most `count`. Returns their number."""
        source, moved = self.owner(slot), 0
        while most is None or moved < most:
            count = KEYS_AT_ONCE if most is None else min(KEYS_AT_ONCE, most - moved)
            found = source.ask("GETKEYSINSLOT", slot, count)
            if not found:
                break
            source.client.migrate(target.host, target.port, found, 0, MIGRATE_TIMEOUT_MS)
            moved += len(found)
        return moved

    def end_move(self, slots: Sequence[int], target: ClusterNode) -> None:
        """Give the slots, whose keys were moved, to `target`."""
        source, target_id = self.owner(slots[0]), self._id_of(target)
        others = [node for node in self.masters if node not in (source, target)]
        self._set_slots(target, slots, "NODE", target_id)  # first, so that no moment has a slot without a master
        for node in (source, *others):
            try:
                self._set_slots(node, slots, "NODE", target_id)
            except redis.ResponseError:
                # A master that learns from the target that its last slot was taken is a replica from then on.
                wait_until(partial(_owns, node, target_id, slots), AGREE_TIMEOUT_S, "the new master to be known")

    def move_slots(self, slots: Sequence[int], target: ClusterNode) -> None:
        """Move slots, all of one master, key by key, while clients read and write."""
        self.begin_move(slots, target)
        source = self.owner(slots[0])
        with source.client.pipeline(transaction=False) as pipeline:
            for slot in slots:
                pipeline.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot)
            counts = pipeline.execute()
        for slot, count in zip(slots, counts, strict=True):
            if count:
                self.move_keys(slot, target)
        self.end_move(slots, target)

    def move_partition(self, partition: int, target: ClusterNode) -> None:
        """Move a Partition's slot, key by key; nothing if `target` has it."""
        slot = partition_slot(partition)
        if self.owner(slot) is not target:
            self.move_slots([slot], target)

    def move_at_once(self, first: int, last: int, target: ClusterNode) -> None:
        """Move a range of slots of one master as Valkey 9 does by itself: it streams them, then hands over in a moment."""
        source = self.owner(first)
        source.ask("MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", self._id_of(target))
        wait_until(lambda: self.owner(first) is target, AGREE_TIMEOUT_S, "the slots to be handed over")

    def add_master(self, replicas: int = 0) -> ClusterNode:
        """One more master, which has no slots, and as many replicas of it."""
        known = self._answering
        master = self._launch_node()
        self._meet([(node, master) for node in known])
        for _ in range(replicas):
            replica = self._launch_node()
            self._meet([(node, replica) for node in (*known, master)])
            replica.ask("REPLICATE", self._id_of(master))
        self.wait_whole()
        return master

    def remove_master(self, master: ClusterNode, target: ClusterNode) -> None:
        """Move all slots of `master` to `target`, and end it and its replicas."""
        slots = [slot for first, last in master.own.slots for slot in range(first, last + 1)]
        followers = self.replicas_of(master)
        self.move_slots(slots, target)
        for node in (*followers, master):
            its_id = self._id_of(node)
            node.kill()
            self.nodes.remove(node)
            for other in self._answering:
                other.ask("FORGET", its_id)
        self.wait_whole()

    def empty(self) -> None:
        """Delete every key and every script."""
        for master in self.masters:
            master.client.flushall()
            master.client.script_flush()

    def stop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        for node in self.nodes:
            node.kill()

    @property
    def _answering(self) -> list[ClusterNode]:
        return [node for node in self.nodes if node.answers]

    def _claims(self) -> list[tuple[Seen, ClusterNode]]:
        """Of every node that says it has slots what it says, less those whose slots a newer claim has."""
        claims = [(own, node) for node in self._answering if (own := node.own).is_master and own.slots]
        newest: list[tuple[Seen, ClusterNode]] = []
        for own, node in claims:
            slot = own.slots[0][0]
            if all(other.epoch <= own.epoch or not other.owns(slot) for other, _ in claims):
                newest.append((own, node))
        return newest

    def _claims_to(self, slot: int) -> list[tuple[int, ClusterNode]]:
        return [(own.epoch, node) for own, node in self._claims() if own.owns(slot)]

    def _id_of(self, node: ClusterNode) -> str:
        if node.answers:
            return node.own.id
        return next(seen.id for other in self._answering for seen in other.seen if seen.port == node.port)

    def _launch_node(self) -> ClusterNode:
        folder = self._directory / f"node{self._made}"
        self._made += 1
        host = apart_host(self._made) if self._are_apart else LOOPBACK
        for tries_left in reversed(range(START_TRIES)):
            node = ClusterNode(self._flavor, folder, self._extra, self._node_timeout_ms, host, self._certificate)
            try:
                node.launch()
            except StartFailed:
                if not tries_left:
                    raise
            else:
                break
        self.nodes.append(node)
        return node

    def _meet(self, pairs: Sequence[tuple[ClusterNode, ClusterNode]]) -> None:
        """Introduce both of each pair; by gossip alone it would take seconds."""
        for one, other in pairs:
            one.ask("MEET", other.host, other.port, other.bus_port)
        for one, other in pairs:
            for node, met in ((one, other), (other, one)):
                wait_until(partial(_knows, node, met), START_TIMEOUT_S, "the nodes to meet")

    def _set_slots(self, node: ClusterNode, slots: Iterable[int], word: str, its_id: str) -> None:
        with node.client.pipeline(transaction=False) as pipeline:
            for slot in slots:
                pipeline.execute_command("CLUSTER", "SETSLOT", slot, word, its_id)
            pipeline.execute()

    def _is_whole(self) -> bool:
        nodes = self._answering
        views = [sorted((seen.slots, seen.port) for seen in node.seen if seen.slots) for node in nodes]
        if any(view != views[0] for view in views):
            return False
        states = [node.state for node in nodes]
        if any(state["cluster_state"] != "ok" or state["cluster_slots_ok"] != str(SLOTS) for state in states):
            return False
        return all(_gets_writes(node) for node in nodes if not node.own.is_master)


def partition_slot(partition: int) -> int:
    """The slot of every key of a Partition."""
    return key_slot(keys.meta(partition))


def _gets_writes(replica: ClusterNode) -> bool:
    facts = replica.client.info("replication")
    return bool(
        facts["role"] == "slave" and facts["master_link_status"] == "up" and not facts["master_sync_in_progress"]
    )


def _knows(node: ClusterNode, met: ClusterNode) -> bool:
    return any(
        seen.port == met.port and seen.is_linked and not seen.flags & {"handshake", "noaddr"} for seen in node.seen
    )


def _owns(node: ClusterNode, its_id: str, slots: Sequence[int]) -> bool:
    its = next(seen for seen in node.seen if seen.id == its_id)
    return all(its.owns(slot) for slot in slots)
