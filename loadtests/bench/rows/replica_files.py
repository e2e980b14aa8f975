"""The Replica on disk and in memory, how fast a node without one gets it, and how fast a node with one is back."""

from __future__ import annotations

import shutil
import time
from mmap import PAGESIZE
from pathlib import Path
from statistics import median

from gate.replica.compaction import LEAST_PAGES
from gate.replica.layout import facts_name
from harness.ports import LOOPBACK, free_port
from harness.processes import family
from harness.service import GateService
from harness.waiting import wait_until
from loadtests.bench.bed import Bed
from loadtests.bench.client import ask
from loadtests.bench.facts import user_id
from loadtests.bench.systems.gate import GateSystem
from loadtests.bench.table import Row

MOST_BYTES_AN_EDGE = 60
LEAST_EDGES_PER_S = 200_000
MOST_SNAPSHOTS = 3
"""Each takes some twenty seconds at full size."""
MOST_RESTART_S = 1.0
COMPACTED_WITHIN_S = 30.0
FIRST_CHECK_WITHIN_S = 30.0
BLOCK_BYTES = 512
"""What `st_blocks` counts in."""
OTHER_NODE = "other-node"


def measure_size(bed: Bed) -> list[Row]:
    """Two rows: the facts file of a node that loaded a snapshot, and of the one that followed the import entry by entry.

    The second is the worst case: pages that fill in random order are two thirds full, those of a snapshot are packed. The pages
    that its commits left free are given back a few seconds after the import, which is waited for.
    """
    followed = _settled_facts_file(bed.node.data)
    other = bed.start_node(OTHER_NODE)
    loaded = _facts_file(other.data)
    resident = max((_resident_bytes(one.pid, loaded) for one in family(other.pid)), default=0)
    other.stop()
    return [
        _size_row(bed, "after a snapshot", loaded, {"resident_bytes_of_one_process": resident}),
        _size_row(bed, "after following the import entry by entry", followed, {}),
    ]


def _size_row(bed: Bed, when: str, facts_file: Path, detail: dict[str, int]) -> Row:
    size = facts_file.stat().st_blocks * BLOCK_BYTES
    return Row(
        "size",
        f"Replica on disk, Users included, {when}; in memory at most that",
        f"<= {MOST_BYTES_AN_EDGE} B an edge",
        f"{size / bed.edges:.1f} B an edge ({bed.edges:,} edges)",
        size <= MOST_BYTES_AN_EDGE * bed.edges,
        {"bytes": size, **detail},
    )


def measure_snapshot(bed: Bed) -> list[Row]:
    """From the start of a node without a Replica to its ready line, which includes the start of its processes."""
    _ = bed.node
    seconds = []
    for _ in range(min(MOST_SNAPSHOTS, bed.options.rounds)):
        shutil.rmtree(bed.folder / OTHER_NODE, ignore_errors=True)
        started = time.perf_counter()
        node = bed.start_node(OTHER_NODE)
        seconds.append(time.perf_counter() - started)
        node.stop()
    rate = bed.edges / median(seconds)
    return [
        Row(
            "snapshot",
            "snapshot load: a node without a Replica, from start to ready line",
            f">= {LEAST_EDGES_PER_S:,} edges/s",
            f"{rate:,.0f} edges/s ({median(seconds):.1f} s)",
            rate >= LEAST_EDGES_PER_S,
            {"seconds": [round(one, 2) for one in seconds]},
        )
    ]


def measure_restart(bed: Bed) -> list[Row]:
    """Stopped in order, and killed whole; then from start to ready line and to the first answered check.

    And with a Redis that is not there: then no ready line comes, and the first answered check counts.
    """
    _ = bed.node
    bed.start_node(OTHER_NODE).stop()
    clean = [_restart(bed, kill=False) for _ in range(bed.options.rounds)]
    killed = [_restart(bed, kill=True) for _ in range(bed.options.rounds)]
    away = [_restart_without_redis(bed) for _ in range(bed.options.rounds)]
    ready, after_kill, without = median(clean), median(killed), median(away)
    return [
        Row(
            "restart",
            f"restart on an existing Replica of {bed.edges:,} edges, from start to ready line and a check",
            f"<= {MOST_RESTART_S} s",
            f"{ready:.2f} s after SIGTERM, {after_kill:.2f} s after kill -9",
            max(ready, after_kill) <= MOST_RESTART_S,
            {"after_sigterm_s": [round(one, 3) for one in clean], "after_kill_s": [round(one, 3) for one in killed]},
        ),
        Row(
            "restart",
            f"start on an existing Replica of {bed.edges:,} edges while Redis is away, to the first answered check",
            f"<= {MOST_RESTART_S} s",
            f"{without:.2f} s",
            without <= MOST_RESTART_S,
            {"seconds": [round(one, 3) for one in away]},
        ),
    ]


def _restart(bed: Bed, *, kill: bool) -> float:
    """Start the other node, time it, and end it the way the next start shall find it."""
    started = time.perf_counter()
    node = bed.start_node(OTHER_NODE)
    system = GateSystem(node, bed.node.credentials)
    with system.connect() as connection:
        ask(connection, system.commands((user_id(1), user_id(2)))[0], 1)
    elapsed = time.perf_counter() - started
    if kill:
        node.kill_all()
    else:
        node.stop()
    return elapsed


def _restart_without_redis(bed: Bed) -> float:
    """Start the other node on an address where nothing listens, time its first check, and stop it."""
    nowhere = f"redis://{LOOPBACK}:{free_port()}"
    started = time.perf_counter()
    node = GateService.start(bed.folder / OTHER_NODE, redis_url=nowhere, workers=1, wait=False)
    try:
        wait_until(lambda: _answers(node, bed), FIRST_CHECK_WITHIN_S, "a first check")
        return time.perf_counter() - started
    finally:
        node.stop()


def _answers(node: GateService, bed: Bed) -> bool:
    system = GateSystem(node, bed.node.credentials)
    try:
        with system.connect() as connection:
            ask(connection, system.commands((user_id(1), user_id(2)))[0], 1)
    except ConnectionRefusedError:
        return False
    return True


def _settled_facts_file(data: Path) -> Path:
    """The facts file in use once it was compacted, or is as it is for good: a small one is never compacted."""
    deadline_s = time.monotonic() + COMPACTED_WITHIN_S
    while (file := _facts_file(data)).name == facts_name(1) and time.monotonic() < deadline_s:
        if file.stat().st_size < LEAST_PAGES * PAGESIZE:
            break
        time.sleep(0.1)
    return file


def _facts_file(data: Path) -> Path:
    directory = data / "replica"
    return directory / (directory / "current").read_text().strip()


def _resident_bytes(pid: int, mapped: Path) -> int:
    """How much of the file one process has in memory; 0 if it does not map it."""
    in_file, total = False, 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            in_file = words[-1] == str(mapped)
        elif in_file and words[0] == "Rss:":
            total += int(words[1]) * 1_024
    return total
