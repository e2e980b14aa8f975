"""Rows of the report: what was measured, the bound it must keep, and whether it does. As a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

RESULTS = Path(__file__).parents[1] / "results"


@dataclass
class Row:
    """One line. `met` is None where nothing is demanded. `command` shows this row again."""

    row: str
    what: str
    target: str
    measured: str
    met: bool | None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return f'make bench ARGS="--only {self.row}"'


def show_row(row: Row, console: Console) -> None:
    """One row as soon as it is measured. rich flushes, so a pipe has it at once too."""
    met = {True: "[green]met[/]", False: "[red]NOT MET[/]", None: "measured"}[row.met]
    bound = f" (must be {escape(row.target)})" if row.target else ""
    line = f"{met} [bold]{row.row}[/]: {escape(row.what)}: {escape(row.measured)}{bound}"
    console.print(line, highlight=False, soft_wrap=True)


def show(rows: list[Row], console: Console) -> None:
    """The report for people."""
    table = Table(title="Gate and its peers", title_justify="left")
    for heading in ("row", "what", "must be", "measured", "met"):
        table.add_column(heading, justify="left")
    for row in rows:
        met = {True: "[green]yes[/]", False: "[red]NO[/]", None: ""}[row.met]
        table.add_row(row.row, row.what, row.target, row.measured, met)
    console.print(table)


def write(rows: list[Row], about: dict[str, Any], path: Path) -> None:
    """The report for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        **about,
        "rows": [asdict(row) | {"command": row.command} for row in rows],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    models = [line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _cpu_lines() -> list[str]:
    cpu = Path("/proc/cpuinfo")
    return cpu.read_text().splitlines() if cpu.exists() else []
