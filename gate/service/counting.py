"""Where the processes of one service count: a directory that `gate.metrics` finds through the environment.

Apart from `gate.metrics`, because the supervisor prepares it before it starts anything, and importing the metrics takes time.
"""

from __future__ import annotations

from pathlib import Path

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own; read when it is first imported."""

KINDS = ("counter", "gauge_livesum", "gauge_livemax", "histogram")
"""As prometheus_client names its files, for the sorts of metric that `gate.metrics` has."""
COUNT_BYTES = 1 << 17
"""Of each file: some 1,000 series, twice what it makes room for by itself."""


def clear_counts(directory: Path) -> None:
    """Count anew, as a service does from its start."""
    for old in directory.glob("*.db"):
        old.unlink()


def reserve_counts(directory: Path, pid: int) -> bool:
    """Give a process's counts their place on the disk before they are mapped; False if there is none.

    prometheus_client maps files with holes, and on a disk that got full to count into one ends the process.
    """
    for kind in KINDS:
        path = directory / f"{kind}_{pid}.db"
        try:
            path.write_bytes(bytes(COUNT_BYTES))
        except OSError:
            path.unlink(missing_ok=True)
            return False
    return True


def forget_gauges_of(pid: int, directory: Path) -> None:
    """A process died: what it was holding open (connections) is gone, what it counted stays."""
    for gauge in directory.glob(f"gauge_live*_{pid}.db"):
        gauge.unlink(missing_ok=True)
