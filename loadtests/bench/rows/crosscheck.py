"""The same question through `redis-benchmark`, which draws its own uniform pairs: a check on our own load client."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Sequence
from statistics import median

from gate.clock import wall_ms
from loadtests.bench.bed import Bed
from loadtests.bench.table import Row

PIPELINES = (1, 16, 64, 256)
CONNECTIONS = 50
MOST_ROUNDS = 3
CHECKS_A_RUN = {1: 50_000, 16: 400_000, 64: 1_000_000, 256: 1_000_000}
RANDOM_ID = "__rand_int__"
"""12 digits below `-r`: our ids."""


def measure(bed: Bed) -> list[Row]:
    """One row a grid cell, without a bound."""
    if shutil.which("redis-benchmark") is None:
        return [Row("redis-benchmark", "redis-benchmark", "", "not installed: run scripts/install-test-tools", None)]
    credentials = bed.node.credentials
    ours = ["-p", str(bed.node.resp_port), "--user", credentials.app_key, "-a", credentials.app_secret]
    theirs = ["-p", str(bed.peers.port)]
    check = ["GATE.CHECK", RANDOM_ID, RANDOM_ID]
    script = ["EVALSHA", bed.lua.sha, "0", RANDOM_ID, RANDOM_ID, str(wall_ms())]
    cells = []
    for pipeline in PIPELINES:
        gate, lua = [], []
        for _ in range(min(MOST_ROUNDS, bed.options.rounds)):
            gate.append(_rate(bed, [*ours, *_load(bed, pipeline), *check]))
            lua.append(_rate(bed, [*theirs, *_load(bed, pipeline), *script]))
        cell = {"gate": round(median(gate)), "redis lua": round(median(lua))}
        cells.append({"pipeline": pipeline, "connections": CONNECTIONS} | cell)
        bed.say(f"redis-benchmark -P {pipeline} -c {CONNECTIONS}: {cell}")
    headline = next(cell for cell in cells if cell["pipeline"] == 64)
    return [
        Row(
            "redis-benchmark",
            "checks/s by redis-benchmark -P 64 -c 50, its own uniform pairs, against Redis Lua",
            "",
            f"{headline['gate'] / headline['redis lua']:.2f} x ({headline['gate']:,} to {headline['redis lua']:,})",
            None,
            {"cells": cells},
        )
    ]


def _load(bed: Bed, pipeline: int) -> list[str]:
    checks = max(10_000, round(CHECKS_A_RUN[pipeline] * min(1.0, bed.options.seconds)))
    return ["-n", str(checks), "-c", str(CONNECTIONS), "-P", str(pipeline), "-r", str(bed.facts.users), "--csv"]


def _rate(bed: Bed, arguments: Sequence[str]) -> float:
    done = subprocess.run(
        ["redis-benchmark", "-h", "127.0.0.1", *arguments], capture_output=True, text=True, check=True
    )
    last = list(csv.reader(done.stdout.splitlines()))[-1]
    return float(last[1])
