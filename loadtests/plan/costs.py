"""The unit costs that a plan is computed from, each with the row of the report that it was read from.

A row that is missing is an error that names it: a plan never goes on with a figure from elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from loadtests.bench.table import RESULTS

BENCH, SCALE, UNITS = "bench.json", "scale.json", "units.json"
MADE_BY = {
    BENCH: "make bench",
    SCALE: ".venv/bin/python -m loadtests.scale",
    UNITS: ".venv/bin/python -m loadtests.micro.units",
}

BUSY_LOAD = 1.5
"""Runnable processes a core past which caches are shared with others, which lengthens CPU times."""

Report = Mapping[str, Any]
Reader = Callable[[Report], float]


class CostMissing(Exception):
    """A report lacks a row; the message names it and the command that measures it."""


class Cost(NamedTuple):
    """The cost of one unit. `source` is the file and the row."""

    name: str
    what: str
    value: float
    unit: str
    source: str


class _Asked(NamedTuple):
    file: str
    row: str
    part: str
    """Of the row's `what`, where several rows have that name."""
    what: str
    unit: str
    read: Reader
    """Takes the row, or the whole report of `scale.json`."""


def _first_number(row: Report) -> float:
    return float(re.findall(r"[\d,]+(?:\.\d+)?", row["measured"])[0].replace(",", ""))


def _checks_cpu(pipeline: int) -> Reader:
    def read(row: Report) -> float:
        cells = row["detail"]["cells"]
        return float(next(cell["gate"]["cpu_us"] for cell in cells if cell["pipeline"] == pipeline))

    return read


def _large_penalty(report: Report) -> float:
    """Random pairs of more Users than a worker remembers, on the largest Replica, against the smallest Replica."""
    least, largest = report["sizes"][0]["checks"], report["sizes"][-1]["checks"]
    return float(largest["many"]["cpu_us"] - least["as elsewhere"]["cpu_us"])


def _of_unit(row: str, what: str, unit: str) -> _Asked:
    return _Asked(UNITS, row, "", what, unit, lambda found: float(found["value"]))


_ASKED = {
    "check_cpu": _Asked(BENCH, "checks", "uniform pairs, pipeline 1,", "a check in a pipeline of 16, one worker", "µs",
                        _checks_cpu(16)),
    "check_alone_cpu": _Asked(BENCH, "checks", "uniform pairs, pipeline 1,", "a check without a pipeline, one worker", "µs",
                              _checks_cpu(1)),
    "check_large_cpu": _Asked(SCALE, "sizes", "", "what random Users of a large Replica add to it", "µs", _large_penalty),
    "replica_entry": _Asked(SCALE, "sizes", "", "Replica, an entry, Users included", "B",
                            lambda report: report["sizes"][-1]["file_bytes"] / report["sizes"][-1]["entries"]),
    "start_s": _Asked(SCALE, "sizes", "", "start on a Replica, to a first check", "s",
                      lambda report: float(median(report["sizes"][-1]["start_s"]))),
    "worker_memory": _Asked(SCALE, "sizes", "", "memory of a worker", "B",
                            lambda report: float(report["sizes"][-1]["worker_memory_bytes"])),
    "snapshot_rate": _Asked(BENCH, "snapshot", "snapshot load", "entries a second of a snapshot", "/s", _first_number),
    "session_memory": _Asked(BENCH, "presence", "Redis memory of a Session",
                            "Redis memory of a Session and its entry in the feed", "B", _first_number),
    "socket_memory": _Asked(BENCH, "websockets", "memory of an idle WebSocket", "memory of a WebSocket", "KB",
                            _first_number),
    "http_writes": _Asked(BENCH, "user-calls", "a write: blacklist/add",
                          "writes a second of one HTTP process, clients on the same cores", "/s", _first_number),
    "write_http_cpu": _of_unit("write-http-cpu", "HTTP role, a write", "µs"),
    "user_memory": _of_unit("user-memory", "Redis memory of a registered User", "B"),
    "entry_memory": _of_unit("entry-memory-short", "Redis memory of an entry in a short list", "B"),
    "long_entry_memory": _of_unit("entry-memory-long", "Redis memory of an entry in a long list", "B"),
    "write_cpu": _of_unit("write-redis-cpu", "Redis CPU of a write", "µs"),
    "follower_cpu": _of_unit("follower-redis-cpu", "Redis CPU of a Change, for each node", "µs"),
    "change_cpu": _of_unit("change-replicator-cpu", "replicator, a Change as it comes", "µs"),
    "backlog_cpu": _of_unit("change-catching-up-cpu", "replicator, a Change where many wait", "µs"),
    "batch": _of_unit("changes-a-batch", "Changes that were applied at once, as they came", "Changes"),
    "log_memory": _of_unit("changelog-memory", "Redis memory of a Change in the Changelog", "B"),
    "audit_memory": _of_unit("audit-memory", "Redis memory of a write in the audit", "B"),
    "change_bytes": _of_unit("change-wire-bytes", "a Change as a node reads it", "B"),
    "file_bytes": _of_unit("write-file-bytes", "a write in the append-only file, and to each replica", "B"),
    "announcements": _of_unit("announcements", "announcements of a node under load", "/s"),
    "announcement_cpu": _of_unit("announcement-redis-cpu", "Redis CPU of an announcement, a subscriber", "µs"),
    "connect_cpu": _of_unit("connect-redis-cpu", "Redis CPU of a connect", "µs"),
    "connect_worker_cpu": _of_unit("connect-worker-cpu", "a worker, a connect over RESP", "µs"),
    "renewal_cpu": _of_unit("renewal-redis-cpu", "Redis CPU of a renewal without Sessions", "µs"),
    "session_read_cpu": _of_unit("session-read-redis-cpu", "Redis CPU of a User's Sessions, read", "µs"),
    "feed_memory": _of_unit("feed-memory", "Redis memory of an entry of the feed", "B"),
    "feed_bytes": _of_unit("feed-wire-bytes", "an entry of the feed as it is read", "B"),
}  # fmt: skip
"""In the order of the page."""


class Costs(Mapping[str, float]):
    """All of them, by name; `costs["write_cpu"]` is the figure, `costs.every` has their sources."""

    def __init__(self, every: Mapping[str, Cost]) -> None:
        self.every = every

    def __getitem__(self, name: str) -> float:
        return self.every[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self.every)

    def __len__(self) -> int:
        return len(self.every)


def read_costs(folder: Path = RESULTS) -> Costs:
    """Read all reports. Raises `CostMissing`."""
    reports = {file: _report(folder / file) for file in (BENCH, SCALE, UNITS)}
    return Costs({name: _cost(name, asked, reports[asked.file]) for name, asked in _ASKED.items()})


def conditions(folder: Path = RESULTS) -> str:
    """The machine and the days of the measurements, for the page."""
    reports = {file: _report(folder / file) for file in (BENCH, SCALE, UNITS)}
    machine = reports[BENCH]["machine"]
    days = ", ".join(f"`{file}` of {report['at'][:10]}" for file, report in reports.items())
    text = f"Measured on {machine['cpu']}, {machine['cores']} cores that servers and load clients share:\n{days}."
    busy = reports[UNITS]["load_average"]
    if busy > BUSY_LOAD * reports[UNITS]["machine"]["cores"]:
        text += (
            f"\nThe machine was busy with other work when the rows of `{UNITS}` were measured\n"
            f"(load average {busy:.0f}): its CPU times are too long, by two to three times."
        )
    return text


def _report(path: Path) -> Report:
    try:
        report: Report = json.loads(path.read_text())
    except FileNotFoundError:
        raise CostMissing(f"{path} does not exist: run {MADE_BY[path.name]}") from None
    return report


def _cost(name: str, asked: _Asked, report: Report) -> Cost:
    source = f"{asked.file}: {asked.row}" + (f", {asked.part.rstrip(',')}" if asked.part else "")
    try:
        if asked.file == SCALE:
            found = report
        else:
            found = next(row for row in report["rows"] if row["row"] == asked.row and asked.part in row["what"])
        value = asked.read(found)
    except (StopIteration, KeyError, IndexError, TypeError):
        raise CostMissing(f"{source} is missing ({asked.what}): run {MADE_BY[asked.file]}") from None
    return Cost(name, asked.what, value, asked.unit, source)
