"""Servers, memory and bandwidth of a deployment, and at which size each limit is met.

Every figure is demand times unit cost; shares of a core and of memory that may be used are the constants below.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from gate.core.partition import DEFAULT_PARTITIONS, MAX_PARTITIONS
from gate.presence.gateway import LOOKS_FOR_ALL
from gate.replica.loader import SPOOL_MAX_WEIGHT
from gate.store.writer import LOG_MAX_ENTRIES
from loadtests.plan.costs import Costs

BUSY = 0.6
"""Share of a core that is planned for: queues stay short, and a node that fails leaves its load to the others."""
LEAST_NODES = 3
WORKERS_A_NODE = 4
MASTER_DATA_BYTES = 24e9
"""Of one master; its machine has twice that, since a rewrite of the append-only file forks."""
REPLICAS_A_MASTER = 1
SLICES_CHOSEN = (1, 2, 4, 8, 16, 32, 64)
DEFAULT_AUDIT_DAYS, DAY_S = 90, 86_400
MEAN_OF_PEAK = 0.2
"""The mean rate of writes over a day, of the highest."""
LONG_SHARE = 0.1
"""Of all list entries, those in lists of more than 128."""
RENEWAL_EVERY_S = 5.0
RECONNECT_WITHIN_S = 60.0
"""In which all Users who are online must be able to connect again."""
SESSION_S = 1_800.0
"""Mean length of a Session."""
USERS_A_GATEWAY = 50_000
NODE_MEMORY_BYTES, NETWORK_BYTES = 64e9, 1.25e9
"""Of one machine: memory, and a network of 10 Gbit/s."""
MICRO = 1e-6


class Size(NamedTuple):
    """The demand on the deployment."""

    users: float = 100e6
    entries: float = 1e9
    online: float = 10e6
    checks: float = 1e6
    writes: float = 50e3

    def times(self, factor: float) -> Size:
        """All of it, so many times."""
        return Size(*(factor * each for each in self))


class Line(NamedTuple):
    """One figure of the plan: its part, its name, its computation, and its costs by name."""

    part: str
    what: str
    value: float
    unit: str
    how: str
    costs: tuple[str, ...]


class Plan(NamedTuple):
    """The resources of a deployment."""

    size: Size
    lines: list[Line]
    nodes: int
    masters: int
    slices: int
    partitions: int

    def value(self, what: str) -> float:
        """Of one line."""
        return next(line.value for line in self.lines if line.what == what)


class Limit(NamedTuple):
    """The capacity of a present setting, as a share of the planned size, and the remedy past it."""

    what: str
    share: float
    then: str


def plan_of(size: Size, costs: Costs) -> Plan:
    """Compute all of it."""
    check_us = costs["check_cpu"] + costs["check_large_cpu"]
    worker_cores = _cores(size.checks, check_us)
    nodes = max(LEAST_NODES, math.ceil(worker_cores / WORKERS_A_NODE) + 1)
    partitions = (
        DEFAULT_PARTITIONS if _kept_s(DEFAULT_PARTITIONS, size.writes) > _snapshot_s(size, costs) else MAX_PARTITIONS
    )
    write_us = costs["write_cpu"] + nodes * costs["follower_cpu"]
    announce = nodes * costs["announcements"] * 2 * nodes * costs["announcement_cpu"] * MICRO
    write_cores = _cores(size.writes, write_us) + announce / BUSY
    facts_bytes = size.users * costs["user_memory"] + size.entries * _entry_bytes(costs)
    log_bytes = partitions * LOG_MAX_ENTRIES * costs["log_memory"]
    audit_bytes = MEAN_OF_PEAK * size.writes * DAY_S * costs["audit_memory"]
    redis_bytes = facts_bytes + log_bytes + audit_bytes
    masters = max(1, math.ceil(write_cores), math.ceil(redis_bytes / MASTER_DATA_BYTES))
    connects = size.online / RECONNECT_WITHIN_S
    slice_cores = _cores(connects, costs["connect_cpu"])
    slices = next((each for each in SLICES_CHOSEN if each >= slice_cores), SLICES_CHOSEN[-1])
    gateways = max(1.0, size.online / USERS_A_GATEWAY)
    churn = 2 * size.online / SESSION_S
    lines = [
        Line(
            "checks", "workers", worker_cores, "cores", f"{check_us:.2f} µs a check", ("check_cpu", "check_large_cpu")
        ),
        Line(
            "checks",
            "workers, if no router uses pipelines",
            _cores(size.checks, costs["check_alone_cpu"] + costs["check_large_cpu"]),
            "cores",
            "",
            ("check_alone_cpu", "check_large_cpu"),
        ),
        Line(
            "nodes", "nodes", nodes, "", f"{WORKERS_A_NODE} workers each, one node to spare, {LEAST_NODES} at least", ()
        ),
        Line(
            "nodes",
            "Replica of a node: disk, and page cache",
            size.entries * costs["replica_entry"],
            "B",
            "a copy on every node",
            ("replica_entry",),
        ),
        Line(
            "nodes",
            "replicator of a node",
            size.writes * costs["backlog_cpu"] * MICRO,
            "cores",
            "of one core",
            ("backlog_cpu",),
        ),
        Line("nodes", "start on its Replica", costs["start_s"], "s", "whatever the size", ("start_s",)),
        Line(
            "nodes",
            "snapshot of a node without a Replica",
            _snapshot_s(size, costs),
            "s",
            "from a quiet Redis",
            ("snapshot_rate",),
        ),
        Line(
            "Redis, facts",
            "masters",
            masters,
            "",
            f"{MASTER_DATA_BYTES / 1e9:.0f} GB of data each; {REPLICAS_A_MASTER} replica each",
            (),
        ),
        Line(
            "Redis, facts",
            "memory: Users and lists",
            facts_bytes,
            "B",
            f"{LONG_SHARE:.0%} of the entries in lists of more than 128",
            ("user_memory", "entry_memory", "long_entry_memory"),
        ),
        Line("Redis, facts", "memory: Changelog", log_bytes, "B", f"{partitions:,} Partitions", ("log_memory",)),
        Line(
            "Redis, facts",
            "memory: audit of one day",
            audit_bytes,
            "B",
            f"writes at {MEAN_OF_PEAK:.0%} of the highest rate on average",
            ("audit_memory",),
        ),
        Line(
            "Redis, facts",
            "CPU of all masters",
            write_cores,
            "cores",
            f"{write_us:.0f} µs a write with {nodes} nodes",
            ("write_cpu", "follower_cpu", "announcements", "announcement_cpu"),
        ),
        Line(
            "Redis, facts",
            "append-only files and replicas",
            size.writes * costs["file_bytes"] * (1 + REPLICAS_A_MASTER),
            "B/s",
            "",
            ("file_bytes",),
        ),
        Line(
            "Redis, facts",
            "Changelog to all nodes",
            size.writes * costs["change_bytes"] * nodes,
            "B/s",
            "",
            ("change_bytes",),
        ),
        Line(
            "Redis, Presence",
            "slices",
            slices,
            "",
            f"all online again within {RECONNECT_WITHIN_S:.0f} s; each on a core of its own",
            ("connect_cpu",),
        ),
        Line("Redis, Presence", "memory", size.online * costs["session_memory"], "B", "", ("session_memory",)),
        Line(
            "Redis, Presence",
            "CPU of connects and disconnects, in calm",
            _cores(churn, costs["connect_cpu"]),
            "cores",
            f"Sessions of {SESSION_S / 60:.0f} min",
            ("connect_cpu",),
        ),
        Line(
            "Redis, Presence",
            "CPU of renewals",
            _cores(gateways * slices / RENEWAL_EVERY_S, costs["renewal_cpu"])
            + _cores(size.online / LOOKS_FOR_ALL / RENEWAL_EVERY_S, costs["session_read_cpu"]),
            "cores",
            f"{gateways:,.0f} Gateways of {USERS_A_GATEWAY:,} Users; each looks over a {LOOKS_FOR_ALL}th of its Sessions",
            ("renewal_cpu", "session_read_cpu"),
        ),
        Line("Redis, Presence", "feed to one reader, in calm", churn * costs["feed_bytes"], "B/s", "", ("feed_bytes",)),
        Line(
            "workers, Presence",
            "workers while all connect again",
            _cores(connects, costs["connect_worker_cpu"]),
            "cores",
            f"{connects:,.0f} connects a second over RESP",
            ("connect_worker_cpu",),
        ),
        Line(
            "HTTP",
            "HTTP workers",
            _cores(size.writes, costs["write_http_cpu"]),
            "cores",
            "if every write comes over HTTP, one entry a call",
            ("write_http_cpu",),
        ),
        Line(
            "HTTP",
            "memory, if clients use WebSockets of Gate",
            size.online * costs["socket_memory"] * 1e3,
            "B",
            "kernel's buffers not counted",
            ("socket_memory",),
        ),
    ]
    return Plan(size, lines, nodes, masters, slices, partitions)


def limits_of(plan: Plan, costs: Costs) -> list[Limit]:
    """Each limit of a deployment with today's defaults on one Redis, the first to be met first."""
    size, nodes = plan.size, plan.nodes
    kept = SPOOL_MAX_WEIGHT + DEFAULT_PARTITIONS * LOG_MAX_ENTRIES
    kept_most = SPOOL_MAX_WEIGHT + MAX_PARTITIONS * LOG_MAX_ENTRIES
    facts = size.users * costs["user_memory"] + size.entries * _entry_bytes(costs)
    audit = MEAN_OF_PEAK * size.writes * DAY_S * DEFAULT_AUDIT_DAYS * costs["audit_memory"]
    write_us = costs["write_cpu"] + nodes * costs["follower_cpu"]
    missed = size.writes * _snapshot_s(size, costs)
    return sorted(
        [
            Limit(
                f"the audit of {DEFAULT_AUDIT_DAYS} days in one Redis",
                MASTER_DATA_BYTES / audit,
                "`gate app set KEY --audit-days 1`, and send the audit to where logs are kept",
            ),
            Limit(
                f"a snapshot is followed from {DEFAULT_PARTITIONS} Partitions: Changes that are kept while it loads",
                # both the time of the load and the rate of the writes grow with the size
                math.sqrt(kept / missed),
                f"`--partitions {MAX_PARTITIONS:,}` at the very first start, which carries "
                f"{math.sqrt(kept_most / missed):.0%} of the size; past it a new node starts on a copy of another's Replica",
            ),
            Limit(
                "a node is away for 20 s (an upgrade) and its Changes are still in the Changelog",
                DEFAULT_PARTITIONS * LOG_MAX_ENTRIES / (20 * size.writes),
                f"`--partitions {MAX_PARTITIONS:,}`: {_kept_s(MAX_PARTITIONS, size.writes):,.0f} s at this size",
            ),
            Limit(
                "writes over HTTP by one process",
                1 / _cores(size.writes, costs["write_http_cpu"]),
                "`--http-workers N`, more nodes; many entries in one call, or `gate import`, take far less",
            ),
            Limit(
                "writes on one Redis: one core",
                1 / _cores(size.writes, write_us),
                "Redis Cluster: Partitions spread over masters",
            ),
            Limit("facts in the memory of one Redis", MASTER_DATA_BYTES / facts, "Redis Cluster"),
            Limit(
                f"all connect again within {RECONNECT_WITHIN_S:.0f} s through one slice",
                1 / _cores(size.online / RECONNECT_WITHIN_S, costs["connect_cpu"]),
                "`presence_slices`, on masters of their own; Gateways that spread their clients' return over minutes",
            ),
            Limit(
                "Sessions in the memory of one Redis",
                MASTER_DATA_BYTES / (size.online * costs["session_memory"]),
                "`presence_slices`, `--presence-redis`",
            ),
            Limit(
                "a replicator: one core of each node",
                1 / (size.writes * costs["backlog_cpu"] * MICRO),
                "no more nodes help: fewer writes, or several Apps on deployments of their own",
            ),
            Limit(
                "the Replica in the memory of a node",
                NODE_MEMORY_BYTES / (size.entries * costs["replica_entry"]),
                "it goes on from disk, a read for each User and entry that is not in memory; more memory",
            ),
            Limit(
                "checks on one worker",
                1 / _cores(size.checks, costs["check_cpu"] + costs["check_large_cpu"]),
                "`--workers N`, then more nodes",
            ),
            Limit(
                "the Changelog over one network of 10 Gbit/s",
                NETWORK_BYTES / (size.writes * costs["change_bytes"] * nodes),
                "Redis Cluster: each master sends its own Partitions",
            ),
            Limit(
                "announcements of nodes: one core of Redis, by the number of nodes",
                # they grow with the square of the nodes
                math.sqrt(BUSY / (2 * costs["announcements"] * costs["announcement_cpu"] * MICRO)) / nodes,
                "fewer, larger nodes; routers that check in process read one Replica a machine",
            ),
        ],
        key=lambda limit: limit.share,
    )


def _cores(rate: float, cost_us: float) -> float:
    """How many, at that rate a second, of which `BUSY` is used."""
    return rate * cost_us * MICRO / BUSY


def _snapshot_s(size: Size, costs: Costs) -> float:
    return size.entries / costs["snapshot_rate"]


def _kept_s(partitions: int, writes: float) -> float:
    """How long a Change is in the Changelog at that rate."""
    return partitions * LOG_MAX_ENTRIES / max(writes, 1e-9)


def _entry_bytes(costs: Costs) -> float:
    return (1 - LONG_SHARE) * costs["entry_memory"] + LONG_SHARE * costs["long_entry_memory"]
