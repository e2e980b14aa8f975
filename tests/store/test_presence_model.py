"""The store of Presence against a naive model: whatever Gateways, operators, sweeps and clocks do, they agree after every step.

The scripts are the real ones on a real server; only their clock is played (`played_clock`). `GATE_MODEL_EXAMPLES` says how many
runs to try, for one that looks for longer.
"""

from __future__ import annotations

import os
from functools import partial
from typing import cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    run_state_machine_as_test,
)

from gate.core.presence import session_parts
from harness.servers import RedisServer
from tests.store.presence_machine import Agrees

EXAMPLES = int(os.environ.get("GATE_MODEL_EXAMPLES", "40"))
STEPS = 60
MOST_SLICES = 3


@pytest.mark.timeout(300)
def test_presence_agrees_with_a_naive_model(each_redis: RedisServer) -> None:
    """Each run begins with one slice, and may grow at any step."""
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # Explaining traces every line, and takes ten times as long as finding.
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    )
    machine = cast("type[RuleBasedStateMachine]", partial(Agrees, each_redis, MOST_SLICES))  # it asks for any factory
    run_state_machine_as_test(machine, settings=chosen)


def test_ids_of_the_model_are_such_as_the_store_makes() -> None:
    assert session_parts("00000000000.YW5u") == ("0" * 11, b"ann")
