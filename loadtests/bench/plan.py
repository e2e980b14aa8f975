"""What a run of the benchmark does, before it does it: which rows, at which size, into which file, and how long it takes.

A whole run is every row at full size. It alone writes `loadtests/results/bench.json`, which the README's figures come from;
a part of it (`--only`, `--scale`) or `--quick` writes a file that git ignores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.bench.bed import Options
from loadtests.bench.table import RESULTS

WHOLE_REPORT = RESULTS / "bench.json"
PART_REPORT = RESULTS / "bench-part.json"
QUICK_REPORT = RESULTS / "bench-quick.json"

QUICK = Options(scale=0.02, seconds=0.1, rounds=2)
"""Facts that load in a second or two; rounds short enough that all rows fit into the time."""
QUICK_ROWS = (
    "checks",
    "roundtrip",
    "may-send",
    "mcheck",
    "http-check",
    "http-batch",
    "snapshot",
    "restart",
    "ack",
    "user-calls",
    "presence-churn",
)
QUICK_S = 120.0
"""What `--quick` stays under."""
LAST_QUICK_START_S = 85.0
"""After so long no further row of `--quick` begins, so that a busy machine measures less rather than longer."""
WHOLE_S = 1_700.0
"""A whole run on two cores, for the case that no report says how long its rows took."""


@dataclass(frozen=True)
class Plan:
    """One run. `is_quick`: the bounds are for the full size, so none is judged."""

    rows: tuple[str, ...]
    options: Options
    out: Path
    is_quick: bool = False

    @property
    def is_whole(self) -> bool:
        return self.out == WHOLE_REPORT

    def may_begin(self, elapsed_s: float) -> bool:
        """Whether there is time for one more row."""
        return not self.is_quick or elapsed_s < LAST_QUICK_START_S

    def expected(self) -> str:
        """How long it will take, in words, as far as the last whole run says."""
        if self.is_quick:
            return f"under {QUICK_S / 60:.0f} minutes"
        took = _took(WHOLE_REPORT)
        if set(self.rows) <= set(took):
            return f"about {_spelled(sum(took[row] for row in self.rows))}: these rows took that in the last whole run"
        if self.is_whole:
            return f"about {_spelled(WHOLE_S)} on 2 cores"
        return "unknown: no whole run is recorded with the time of each row"


def plan(
    every_row: Sequence[str],
    only: Sequence[str] | None = None,
    scale: float | None = None,
    seconds: float | None = None,
    rounds: int | None = None,
    out: Path | None = None,
    is_quick: bool = False,
) -> Plan:
    """From what the command line says; None is what it does not say."""
    usual = QUICK if is_quick else Options()
    options = Options(
        usual.scale if scale is None else scale,
        usual.seconds if seconds is None else seconds,
        usual.rounds if rounds is None else rounds,
    )
    rows = tuple(only or (QUICK_ROWS if is_quick else every_row))
    whole = not is_quick and options.scale >= 1.0 and set(rows) == set(every_row)
    default = QUICK_REPORT if is_quick else WHOLE_REPORT if whole else PART_REPORT
    return Plan(rows, options, out or default, is_quick)


def _took(report: Path) -> dict[str, float]:
    if not report.exists():
        return {}
    document: dict[str, Any] = json.loads(report.read_text())
    took: dict[str, float] = document.get("took_s", {})
    return took


def _spelled(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"
