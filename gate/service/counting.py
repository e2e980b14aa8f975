"""Where the processes of one service count: a directory that `gate.metrics` finds through the environment.

Apart from `gate.metrics`, because the supervisor prepares it before it starts anything, and importing the metrics takes time.
"""

from __future__ import annotations

from pathlib import Path

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own; read when it is first imported."""


def clear_counts(directory: Path) -> None:
    """Count anew, as a service does from its start."""
    for old in directory.glob("*.db"):
        old.unlink()


def forget_gauges_of(pid: int, directory: Path) -> None:
    """A process died: what it was holding open (connections) is gone, what it counted stays."""
    for gauge in directory.glob(f"gauge_live*_{pid}.db"):
        gauge.unlink(missing_ok=True)
