"""A minute and a half of `make chaos`: every fault of its table, overlapping, by a seed, and a judge of every answer.

`GATE_TEST_SEED` and `GATE_CHAOS_MINUTES` vary it. On failure: the seed, the faults with their times, and the history around
each violation; `make chaos SEED=…` repeats the schedule.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from harness.seeds import seed
from loadtests.chaos import report
from loadtests.chaos.run import Options, Run
from loadtests.chaos.site import Site

SEED = seed(20_261_128)
MINUTES = float(os.environ.get("GATE_CHAOS_MINUTES", "1.5"))
NODES = 3
LEAST_FAULTS_A_MINUTE, LEAST_VERDICTS_A_MINUTE, LEAST_WRITES_A_MINUTE = 15, 5_000, 100
"""Smaller numbers prove nothing. An idle machine reaches forty, 100,000 and a thousand."""


@pytest.mark.timeout(MINUTES * 60 * 3 + 120)
def test_no_promise_is_broken_in_a_storm_of_faults(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", NODES)
    try:
        site.start()
        outcome = asyncio.run(Run(Options(SEED, MINUTES * 60, NODES), site, print).go())
    finally:
        site.close()
    found = report.as_json(outcome)
    assert not found["violations"], report.failure(found)
    assert found["faults"] > LEAST_FAULTS_A_MINUTE * MINUTES
    assert found["verdicts"] > LEAST_VERDICTS_A_MINUTE * MINUTES
    assert found["writes"] > LEAST_WRITES_A_MINUTE * MINUTES
