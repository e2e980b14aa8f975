"""The samples of a soak: memory and descriptors by role, the Replica's file, and the contents of Redis.

Memory is PSS, in which a shared page counts once over all processes that have it. The streams of Redis that are bounded by
their own settings (Changelog, audit, feed) fill up for hours, so they are taken off its memory.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import lmdb
import redis

from harness.processes import family

ROLE = re.compile(r"gate\.service\.role (\w+)")
STREAMS = re.compile(rb"gate:\{\d+\}:(log|audit|hooks|hooks-dead)|gate:.*:(feed|samples)")
KEYS_A_SCAN = 1_000


@dataclass
class Series:
    """Samples by name: seconds since the beginning, and the value."""

    points: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, at_s: float, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.points[name].append((at_s, value))


def of_processes(pids: list[int], node: int) -> dict[str, float]:
    """PSS in MB and open descriptors, by role of one node."""
    found: defaultdict[str, float] = defaultdict(float)
    for root in pids:
        for one in family(root):
            role = ROLE.search(one.command)
            name = f"node {node} {role[1] if role else 'supervisor'}"
            try:
                found[f"memory MB, {name}"] += _pss_bytes(one.pid) / 1e6
                found[f"descriptors, {name}"] += len(os.listdir(f"/proc/{one.pid}/fd"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended since it was listed
    return dict(found)


def of_replica(facts: Path, node: int) -> dict[str, float]:
    """The facts file in use: its size, the pages that LMDB has ever used of it, and its readers."""
    env = lmdb.open(str(facts), subdir=False, readonly=True, lock=True, max_readers=1_024)
    try:
        about = env.info()
        return {
            f"file MB, node {node}": facts.stat().st_blocks * 512 / 1e6,
            f"pages, node {node}": float(about["last_pgno"]),
            f"readers, node {node}": float(about["num_readers"]),
        }
    finally:
        env.close()


def of_redis(client: redis.Redis) -> dict[str, float]:
    """Keys, and memory without the bounded streams."""
    streams = [key for key in client.scan_iter(count=KEYS_A_SCAN) if STREAMS.fullmatch(key)]
    pipeline = client.pipeline(transaction=False)
    for key in streams:
        pipeline.memory_usage(key)
    in_streams = sum(used or 0 for used in pipeline.execute())
    about = client.info("memory")
    return {
        "keys, Redis": float(client.dbsize()),
        "memory MB, Redis without its streams": (about["used_memory"] - in_streams) / 1e6,
        "memory MB, Redis's streams": in_streams / 1e6,
    }


def _pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1_024
    return 0
