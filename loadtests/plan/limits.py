"""At which size each limit of a deployment is met, as a share of the planned size."""

from __future__ import annotations

import math
from typing import NamedTuple

from gate.core.revision import DEFAULT_PARTITIONS, MAX_PARTITIONS
from gate.replica.loader import SPOOL_MAX_WEIGHT
from gate.store.writer import LOG_MAX_ENTRIES
from loadtests.plan.costs import Costs
from loadtests.plan.sizing import (
    BUSY,
    DAY_S,
    MASTER_DATA_BYTES,
    MEAN_OF_PEAK,
    MICRO,
    RECONNECT_WITHIN_S,
    Plan,
    cores,
    entry_bytes,
    kept_s,
    snapshot_s,
)

DEFAULT_AUDIT_DAYS = 90
NODE_MEMORY_BYTES, NETWORK_BYTES = 64e9, 1.25e9
"""Of one machine: memory, and a network of 10 Gbit/s."""


class Limit(NamedTuple):
    """The capacity of a present setting, as a share of the planned size, and the remedy past it."""

    what: str
    share: float
    then: str


def limits_of(plan: Plan, costs: Costs) -> list[Limit]:
    """Each limit of a deployment with today's defaults on one Redis, the first to be met first."""
    limits = [*_of_partitions(plan, costs), *_of_redis(plan, costs), *_of_nodes(plan, costs)]
    return sorted(limits, key=lambda limit: limit.share)


def _of_partitions(plan: Plan, costs: Costs) -> list[Limit]:
    """What more Partitions move: Changes that are kept for a node that reads them late."""
    writes = plan.size.writes
    kept = SPOOL_MAX_WEIGHT + DEFAULT_PARTITIONS * LOG_MAX_ENTRIES
    kept_most = SPOOL_MAX_WEIGHT + MAX_PARTITIONS * LOG_MAX_ENTRIES
    missed = writes * snapshot_s(plan.size, costs)
    return [
        Limit(
            f"a snapshot is followed from {DEFAULT_PARTITIONS} Partitions: Changes that are kept while it loads",
            # both the time of the load and the rate of the writes grow with the size
            math.sqrt(kept / missed),
            f"`--partitions {MAX_PARTITIONS:,}` at the very first start, which carries "
            f"{math.sqrt(kept_most / missed):.0%} of the size; past it a new node starts on a copy of another's Replica",
        ),
        Limit(
            "a node is away for 20 s (an upgrade) and its Changes are still in the Changelog",
            DEFAULT_PARTITIONS * LOG_MAX_ENTRIES / (20 * writes),
            f"`--partitions {MAX_PARTITIONS:,}`: {kept_s(MAX_PARTITIONS, writes):,.0f} s at this size",
        ),
    ]


def _of_redis(plan: Plan, costs: Costs) -> list[Limit]:
    """Memory and processor of one Redis."""
    size, nodes = plan.size, plan.nodes
    facts = size.users * costs["user_memory"] + size.entries * entry_bytes(costs)
    audit = MEAN_OF_PEAK * size.writes * DAY_S * DEFAULT_AUDIT_DAYS * costs["audit_memory"]
    write_us = costs["write_cpu"] + nodes * costs["follower_cpu"]
    connect_cores = cores(size.online / RECONNECT_WITHIN_S, costs["connect_cpu"])
    return [
        Limit(f"the audit of {DEFAULT_AUDIT_DAYS} days in one Redis", MASTER_DATA_BYTES / audit,
              "`gate app set KEY --audit-days 1`, and send the audit to where logs are kept"),
        Limit("writes on one Redis: one core", 1 / cores(size.writes, write_us),
              "Redis Cluster: Partitions spread over masters"),
        Limit("facts in the memory of one Redis", MASTER_DATA_BYTES / facts, "Redis Cluster"),
        Limit(f"all connect again within {RECONNECT_WITHIN_S:.0f} s through one slice", 1 / connect_cores,
              "`presence_slices`, on masters of their own; Gateways that spread their clients' return over minutes"),
        Limit("Sessions in the memory of one Redis", MASTER_DATA_BYTES / (size.online * costs["session_memory"]),
              "`presence_slices`, `--presence-redis`"),
        Limit("the Changelog over one network of 10 Gbit/s",
              NETWORK_BYTES / (size.writes * costs["change_bytes"] * nodes),
              "Redis Cluster: each master sends its own Partitions"),
        Limit("announcements of nodes: one core of Redis, by the number of nodes",
              # they grow with the square of the nodes
              math.sqrt(BUSY / (2 * costs["announcements"] * costs["announcement_cpu"] * MICRO)) / nodes,
              "fewer, larger nodes; routers that check in process read one Replica a machine"),
    ]  # fmt: skip


def _of_nodes(plan: Plan, costs: Costs) -> list[Limit]:
    """Memory of a node, and one core of each of its roles."""
    size = plan.size
    return [
        Limit("writes over HTTP by one process", 1 / cores(size.writes, costs["write_http_cpu"]),
              "`--http-workers N`, more nodes; many entries in one call, or `gate import`, take far less"),
        Limit("a replicator: one core of each node", 1 / (size.writes * costs["backlog_cpu"] * MICRO),
              "no more nodes help: fewer writes, or several Apps on deployments of their own"),
        Limit("the Replica in the memory of a node", NODE_MEMORY_BYTES / (size.entries * costs["replica_entry"]),
              "it goes on from disk, a read for each User and entry that is not in memory; more memory"),
        Limit("checks on one worker", 1 / cores(size.checks, costs["check_cpu"] + costs["check_large_cpu"]),
              "`--workers N`, then more nodes"),
    ]  # fmt: skip
