"""One seed for every random test: `GATE_TEST_SEED`. Without it each test module has its own, so that two runs are alike.

A module names it `SEED`: then `tests/conftest.py` adds it to the report of a test that failed. Hypothesis draws by it as
well; without it, Hypothesis draws by itself and reports the example that failed.
"""

from __future__ import annotations

import os

VARIABLE = "GATE_TEST_SEED"
EXAMPLES = "GATE_TEST_EXAMPLES"
"""A search that has minutes draws more (10), a run for each of a thousand mutants fewer (0.1)."""


def given_seed() -> int | None:
    """What the environment has."""
    text = os.environ.get(VARIABLE)
    return None if text is None else int(text)


def seed(default: int) -> int:
    """The seed of a module: the environment's, else its own."""
    given = given_seed()
    return default if given is None else given


def examples(usual: int) -> int:
    """How many examples a Hypothesis test draws: `usual`, times what the environment has (`GATE_TEST_EXAMPLES=0.1`)."""
    return max(1, round(usual * float(os.environ.get(EXAMPLES, "1"))))
