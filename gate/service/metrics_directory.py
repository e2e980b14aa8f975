"""Where the processes of one service count: a directory that `gate.metrics` finds through the environment.

Apart from `gate.metrics`, because the supervisor prepares it before it starts anything, and importing the metrics takes time.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

# prometheus_client's own; read when it is first imported.
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# As prometheus_client names its files, for the sorts of metric that `gate.metrics` has.
KINDS = ("counter", "gauge_livesum", "gauge_livemax", "histogram")
_ADDED_UP = ("counter", "histogram")
_HEAD_BYTES = 8
# Of each file: some 1,000 series, twice what it makes room for by itself.
COUNT_BYTES = 1 << 17


def clear_counts(directory: Path) -> None:
    """Delete the counts of the previous run: a service counts from its start."""
    for old in directory.glob("*.db"):
        old.unlink()


def reserve_counts(directory: Path, pid: int) -> bool:
    """Allocate disk space for a process's counts before they are mapped; False if the disk is full.

    prometheus_client maps sparse files, and a write into a hole ends the process if the disk is full.
    """
    for kind in KINDS:
        path = directory / f"{kind}_{pid}.db"
        aside = path.with_suffix(".new")
        try:
            aside.write_bytes(bytes(COUNT_BYTES))
            aside.replace(path)  # in one step: a reader fails at a file that is empty
        except OSError:
            aside.unlink(missing_ok=True)
            return False
    return True


def fold_counts_of(pid: int, directory: Path) -> bool:
    """Add what a dead process counted to one file of all dead ones; False while a scrape reads, and then try again.

    A scrape opens every file, so a service whose roles were restarted a thousand times would take seconds for one.
    """
    from prometheus_client.mmap_dict import MmapedDict  # late: it takes time, and few services need it

    looking = os.open(directory, os.O_RDONLY)
    try:
        # A reader holds the directory shared: it sees the counts in the one place or in the other, never in both.
        fcntl.flock(looking, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for kind in _ADDED_UP:
            own, ended = directory / f"{kind}_{pid}.db", directory / f"{kind}_ended.db"
            sums: dict[str, float] = {}
            for path in (ended, own):
                # A process that ended while it made the file may have left it empty.
                has_counts = path.exists() and path.stat().st_size >= _HEAD_BYTES
                counts = MmapedDict.read_all_values_from_file(path) if has_counts else ()  # type: ignore[no-untyped-call]
                for key, value, *_ in counts:
                    sums[key] = sums.get(key, 0.0) + value
            if own.exists():
                aside = ended.with_suffix(".new")
                aside.write_bytes(_packed(sums))
                aside.replace(ended)
                own.unlink()
    except BlockingIOError:
        return False
    except OSError:
        return True  # a full disk: its counts stay where they are, and count
    finally:
        os.close(looking)
    return True


def counted_in(directory: Path, metric: str) -> float:
    """The sum of a counter or a gauge over all labels and processes that count in this directory.

    Read here and not by prometheus_client, whose import the replicator would pay for this one number.
    """
    try:
        looking = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:
        return 0.0
    try:
        fcntl.flock(looking, fcntl.LOCK_SH)  # as a scrape does
        return sum(_sum_in(path, f', "{metric}", '.encode()) for path in directory.glob("*.db"))
    finally:
        os.close(looking)


def samples_in(directory: Path, metrics: Sequence[str]) -> dict[tuple[str, str], float]:
    """The values of these counters and histograms over all processes, by name of the sample and the values of its labels.

    Labels are joined by a space. A bucket of a histogram has the values that are in no smaller bucket, so the number of values
    is the sum of `NAME_bucket`.
    """
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    wanted = [f'["{metric}", '.encode() for metric in metrics]
    try:
        looking = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:
        return found
    try:
        fcntl.flock(looking, fcntl.LOCK_SH)  # as a scrape does
        for path in directory.glob("*.db"):
            for key, value in _entries_of(path):
                if key.startswith(tuple(wanted)):
                    _, name, labels, _ = json.loads(key)
                    found[name, " ".join(labels.values())] += value
    finally:
        os.close(looking)
    return found


def _sum_in(path: Path, name: bytes) -> float:
    return sum(value for key, value in _entries_of(path) if name in key)


def _entries_of(path: Path) -> Iterator[tuple[bytes, float]]:
    """Each key with its value. A key is JSON: the metric, the name of the sample, labels, help."""
    try:
        packed = path.read_bytes()
    except FileNotFoundError:  # of a gauge whose process died just now
        return
    at = _HEAD_BYTES
    end = min(struct.unpack_from("i", packed)[0], len(packed)) if len(packed) >= _HEAD_BYTES else 0
    while at < end:
        (size,) = struct.unpack_from("i", packed, at)
        value_at = at + 4 + size + (8 - (size + 4) % 8)
        yield packed[at + 4 : at + 4 + size], struct.unpack_from("d", packed, value_at)[0]
        at = value_at + 16


def _packed(values: dict[str, float]) -> bytes:
    """As prometheus_client reads it: the bytes in use; then each key with its size, filled up to 8 bytes, value and time."""
    entries = b""
    for key, value in values.items():
        encoded = key.encode()
        filled = encoded + b" " * (8 - (len(encoded) + 4) % 8)
        entries += struct.pack("i", len(encoded)) + filled + struct.pack("dd", value, 0.0)
    return struct.pack("ii", 8 + len(entries), 0) + entries


def forget_gauges_of(pid: int, directory: Path) -> None:
    """A process died: what it was holding open (connections) is gone, what it counted stays."""
    for gauge in directory.glob(f"gauge_live*_{pid}.db"):
        gauge.unlink(missing_ok=True)
