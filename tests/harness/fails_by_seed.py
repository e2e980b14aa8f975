"""Collected by `test_seeds.py` alone: what fails here has its seed in the report."""

from __future__ import annotations

from harness.seeds import seed

SEED = seed(11)


def test_that_fails() -> None:
    assert SEED == 0
