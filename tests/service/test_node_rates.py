"""What two counts of a node's processes say of the time between them; and the samples that its report has."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.service.node_rates import CHECKS, HTTP, Counts, NodeRates, rates_between
from gate.store.node_reports import MAX_SAMPLES, SAMPLE_EVERY_MS


def counts(at_ms: int, allowed: float = 0, banned: float = 0, http_s: float = 0, answers: float = 0) -> Counts:
    found = {(CHECKS, "allowed"): allowed, (CHECKS, "sender-banned"): banned, (f"{HTTP}_sum", "v1"): http_s}
    return Counts(
        at_ms, found | {(f"{HTTP}_bucket", "v1 0.001"): answers / 2, (f"{HTTP}_bucket", "v1 +Inf"): answers / 2}
    )


def test_rates_and_means_of_two_counts() -> None:
    rates = rates_between(counts(1_000, allowed=10), counts(3_000, allowed=50, banned=6, http_s=0.2, answers=4))
    assert rates.verdicts_per_s == {"allowed": 20.0, "sender-banned": 3.0}
    assert (rates.checks_per_s, rates.http_per_s) == (23.0, 2.0)
    assert rates.http_ms == pytest.approx(50.0) and rates.write_ack_ms is rates.check_us is None


def test_streams_that_are_open_for_hours_are_no_answers() -> None:
    streams = {(f"{HTTP}_sum", "console"): 3_600.0, (f"{HTTP}_bucket", "console +Inf"): 1.0}
    now = counts(1_000, http_s=0.01, answers=2)
    rates = rates_between(counts(0), Counts(now.at_ms, now.of | streams))
    assert rates.http_per_s == 2.0 and rates.http_ms == pytest.approx(5.0)


def test_a_counter_that_went_back_counts_as_unmoved() -> None:
    assert rates_between(counts(0, allowed=100), counts(1_000, allowed=3)).checks_per_s == 0


def test_a_node_is_sampled_once_a_slot_and_for_an_hour(tmp_path: Path) -> None:
    rates = NodeRates(tmp_path, lambda: (7, 250))
    rates.take_sample(counts(0), 0)
    assert not rates.samples, "a rate takes two counts"
    for slot in range(1, MAX_SAMPLES + 3):
        for late_ms in (0, 5_000):
            rates.take_sample(counts(slot * SAMPLE_EVERY_MS + late_ms, allowed=slot * 15), slot * SAMPLE_EVERY_MS)
    rates.take_sample(counts(0), 0)
    assert len(rates.samples) == MAX_SAMPLES
    assert [one.at_ms for one in rates.samples][:2] == [3 * SAMPLE_EVERY_MS, 4 * SAMPLE_EVERY_MS]
    last = rates.samples[-1]
    assert (last.verdicts_per_s["allowed"], last.lag, last.stale_ms) == (1.0, 7, 250)
