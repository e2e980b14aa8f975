"""What a scrape reads from the machine: the processes of the service, the disk of its data, and what runs here.

prometheus_client's own collector of processes knows the scraped process alone, and is off in multiprocess mode. So the
process ids of the heartbeats' page are looked up in /proc at each scrape. A process that ended meanwhile is left out.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gate import __version__

PROC = Path("/proc")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Places in /proc/PID/stat after the name of the program, which may hold spaces and brackets: proc(5) counts from 3 there.
_USER_TICKS, _SYSTEM_TICKS, _START_TICKS, _RESIDENT_PAGES = (field - 3 for field in (14, 15, 22, 24))


class OneProcess(NamedTuple):
    """One process at the time of the scrape."""

    cpu_seconds: float
    resident_bytes: int
    start_seconds: float
    """Since 1970."""
    open_fds: int | None
    """None if the kernel does not disclose them."""


def figures_of(pid: int, boot_seconds: int) -> OneProcess | None:
    """Read one process from /proc; None if it has ended. `boot_seconds` is `boot_time`."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Without the times of children: each process of the service is counted by itself.
    ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    try:
        open_fds: int | None = len(os.listdir(PROC / str(pid) / "fd"))
    except OSError:
        open_fds = None
    return OneProcess(
        cpu_seconds=ticks / _TICKS_A_SECOND,
        resident_bytes=int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES,
        start_seconds=boot_seconds + int(fields[_START_TICKS]) / _TICKS_A_SECOND,
        open_fds=open_fds,
    )


def boot_time() -> int:
    """When the machine started, in seconds since 1970."""
    lines = (PROC / "stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("btime "))


class NodeCollector(Collector):
    """`pids` returns the process id of each process of the service by name; `data` is the data directory."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], data: Path) -> None:
        self._pids = pids
        self._data = data

    def collect(self) -> Iterator[Metric]:
        yield from _about()
        yield from _of_disk(self._data)
        yield from _of_processes(self._pids())


def _about() -> Iterator[Metric]:
    from gate.native import core  # late: the supervisor, which answers --health, does not load the core before a scrape

    facts = {"version": __version__, "python": platform.python_version(), "native": "yes" if core else "no"}
    family = GaugeMetricFamily("gate_build_info", "1; what runs here is in the labels.", labels=list(facts))
    family.add_metric(list(facts.values()), 1)
    yield family


def _of_disk(data: Path) -> Iterator[Metric]:
    try:
        disk = os.statvfs(data)
    except OSError:  # the disk itself is out of order: the page is needed all the more
        return
    yield GaugeMetricFamily(
        "gate_disk_free_bytes", "Free for Gate on the disk of the data directory.", value=disk.f_bavail * disk.f_frsize
    )
    yield GaugeMetricFamily(
        "gate_disk_size_bytes", "Size of the disk of the data directory.", value=disk.f_blocks * disk.f_frsize
    )


def _of_processes(pids: Mapping[str, int]) -> Iterator[Metric]:
    boot_seconds = boot_time()
    cpu = CounterMetricFamily("process_cpu_seconds", "CPU time of a process of the service.", labels=["role"])
    resident = GaugeMetricFamily(
        "process_resident_memory_bytes", "Memory in use, with pages that processes share.", labels=["role"]
    )
    start = GaugeMetricFamily("process_start_time_seconds", "When it started, since 1970.", labels=["role"])
    fds = GaugeMetricFamily("process_open_fds", "Files and connections that it has open.", labels=["role"])
    for role, pid in pids.items():
        # It ended between the page and /proc.
        if (figures := figures_of(pid, boot_seconds)) is None:
            continue
        cpu.add_metric([role], figures.cpu_seconds)
        resident.add_metric([role], figures.resident_bytes)
        start.add_metric([role], figures.start_seconds)
        if figures.open_fds is not None:
            fds.add_metric([role], figures.open_fds)
    yield from (cpu, resident, start, fds)
