"""Servers, memory and bandwidth of a deployment. `limits.py` says at which size each limit is met.

Every figure is demand times unit cost; shares of a core and of memory that may be used are the constants below.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from gate.core.revision import DEFAULT_PARTITIONS, MAX_PARTITIONS
from gate.presence.gateway import LOOKS_FOR_ALL
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
DAY_S = 86_400
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


def plan_of(size: Size, costs: Costs) -> Plan:
    """Compute all of it."""
    worker_cores = cores(size.checks, costs["check_cpu"] + costs["check_large_cpu"])
    nodes = max(LEAST_NODES, math.ceil(worker_cores / WORKERS_A_NODE) + 1)
    enough = kept_s(DEFAULT_PARTITIONS, size.writes) > snapshot_s(size, costs)
    partitions = DEFAULT_PARTITIONS if enough else MAX_PARTITIONS
    facts = _facts_in_redis(size, costs, nodes, partitions)
    masters = max(1, math.ceil(facts.cores), math.ceil(facts.bytes / MASTER_DATA_BYTES))
    connects = size.online / RECONNECT_WITHIN_S
    slice_cores = cores(connects, costs["connect_cpu"])
    slices = next((each for each in SLICES_CHOSEN if each >= slice_cores), SLICES_CHOSEN[-1])
    lines = [
        *_checks(size, costs, worker_cores),
        *_nodes(size, costs, nodes),
        Line("Redis, facts", "masters", masters, "",
             f"{MASTER_DATA_BYTES / 1e9:.0f} GB of data each; {REPLICAS_A_MASTER} replica each", ()),
        *facts.lines,
        *_presence(size, costs, slices),
        Line("workers, Presence", "workers while all connect again", cores(connects, costs["connect_worker_cpu"]),
             "cores", f"{connects:,.0f} connects a second over RESP", ("connect_worker_cpu",)),
        Line("HTTP", "HTTP workers", cores(size.writes, costs["write_http_cpu"]), "cores",
             "if every write comes over HTTP, one entry a call", ("write_http_cpu",)),
        Line("HTTP", "memory, if clients use WebSockets of Gate", size.online * costs["socket_memory"] * 1e3, "B",
             "kernel's buffers not counted", ("socket_memory",)),
    ]  # fmt: skip
    return Plan(size, lines, nodes, masters, slices, partitions)


def _checks(size: Size, costs: Costs, worker_cores: float) -> list[Line]:
    check_us = costs["check_cpu"] + costs["check_large_cpu"]
    alone = cores(size.checks, costs["check_alone_cpu"] + costs["check_large_cpu"])
    return [
        Line("checks", "workers", worker_cores, "cores", f"{check_us:.2f} µs a check", ("check_cpu", "check_large_cpu")),
        Line("checks", "workers, if no router uses pipelines", alone, "cores", "",
             ("check_alone_cpu", "check_large_cpu")),
    ]  # fmt: skip


def _nodes(size: Size, costs: Costs, nodes: int) -> list[Line]:
    return [
        Line("nodes", "nodes", nodes, "",
             f"{WORKERS_A_NODE} workers each, one node to spare, {LEAST_NODES} at least", ()),
        Line("nodes", "Replica of a node: disk, and page cache", size.entries * costs["replica_entry"], "B",
             "a copy on every node", ("replica_entry",)),
        Line("nodes", "replicator of a node", size.writes * costs["backlog_cpu"] * MICRO, "cores", "of one core",
             ("backlog_cpu",)),
        Line("nodes", "start on its Replica", costs["start_s"], "s", "whatever the size", ("start_s",)),
        Line("nodes", "snapshot of a node without a Replica", snapshot_s(size, costs), "s", "from a quiet Redis",
             ("snapshot_rate",)),
    ]  # fmt: skip


class _Facts(NamedTuple):
    """The masters that hold the facts: cores and memory of all of them, and the lines of the plan."""

    cores: float
    bytes: float
    lines: list[Line]


def _facts_in_redis(size: Size, costs: Costs, nodes: int, partitions: int) -> _Facts:
    write_us = costs["write_cpu"] + nodes * costs["follower_cpu"]
    announce = nodes * costs["announcements"] * 2 * nodes * costs["announcement_cpu"] * MICRO
    write_cores = cores(size.writes, write_us) + announce / BUSY
    facts_bytes = size.users * costs["user_memory"] + size.entries * entry_bytes(costs)
    log_bytes = partitions * LOG_MAX_ENTRIES * costs["log_memory"]
    audit_bytes = MEAN_OF_PEAK * size.writes * DAY_S * costs["audit_memory"]
    part = "Redis, facts"
    lines = [
        Line(part, "memory: Users and lists", facts_bytes, "B",
             f"{LONG_SHARE:.0%} of the entries in lists of more than 128",
             ("user_memory", "entry_memory", "long_entry_memory")),
        Line(part, "memory: Changelog", log_bytes, "B", f"{partitions:,} Partitions", ("log_memory",)),
        Line(part, "memory: audit of one day", audit_bytes, "B",
             f"writes at {MEAN_OF_PEAK:.0%} of the highest rate on average", ("audit_memory",)),
        Line(part, "CPU of all masters", write_cores, "cores", f"{write_us:.0f} µs a write with {nodes} nodes",
             ("write_cpu", "follower_cpu", "announcements", "announcement_cpu")),
        Line(part, "append-only files and replicas", size.writes * costs["file_bytes"] * (1 + REPLICAS_A_MASTER),
             "B/s", "", ("file_bytes",)),
        Line(part, "Changelog to all nodes", size.writes * costs["change_bytes"] * nodes, "B/s", "",
             ("change_bytes",)),
    ]  # fmt: skip
    return _Facts(write_cores, facts_bytes + log_bytes + audit_bytes, lines)


def _presence(size: Size, costs: Costs, slices: int) -> list[Line]:
    gateways = max(1.0, size.online / USERS_A_GATEWAY)
    churn = 2 * size.online / SESSION_S
    renewals = cores(gateways * slices / RENEWAL_EVERY_S, costs["renewal_cpu"])
    reads = cores(size.online / LOOKS_FOR_ALL / RENEWAL_EVERY_S, costs["session_read_cpu"])
    part = "Redis, Presence"
    return [
        Line(part, "slices", slices, "",
             f"all online again within {RECONNECT_WITHIN_S:.0f} s; each on a core of its own", ("connect_cpu",)),
        Line(part, "memory", size.online * costs["session_memory"], "B", "", ("session_memory",)),
        Line(part, "CPU of connects and disconnects, in calm", cores(churn, costs["connect_cpu"]), "cores",
             f"Sessions of {SESSION_S / 60:.0f} min", ("connect_cpu",)),
        Line(part, "CPU of renewals", renewals + reads, "cores",
             f"{gateways:,.0f} Gateways of {USERS_A_GATEWAY:,} Users; each looks over a {LOOKS_FOR_ALL}th of its Sessions",
             ("renewal_cpu", "session_read_cpu")),
        Line(part, "feed to one reader, in calm", churn * costs["feed_bytes"], "B/s", "", ("feed_bytes",)),
    ]  # fmt: skip


def cores(rate: float, cost_us: float) -> float:
    """How many, at that rate a second, of which `BUSY` is used."""
    return rate * cost_us * MICRO / BUSY


def snapshot_s(size: Size, costs: Costs) -> float:
    """How long a new node loads all facts."""
    return size.entries / costs["snapshot_rate"]


def kept_s(partitions: int, writes: float) -> float:
    """How long a Change is in the Changelog at that rate."""
    return partitions * LOG_MAX_ENTRIES / max(writes, 1e-9)


def entry_bytes(costs: Costs) -> float:
    """Redis memory of one list entry, on average over short and long lists."""
    return (1 - LONG_SHARE) * costs["entry_memory"] + LONG_SHARE * costs["long_entry_memory"]
