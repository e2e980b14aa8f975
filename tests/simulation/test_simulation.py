"""Schedules by seed find no violation, and find deliberately wrong rules.

`GATE_SIMULATE_SECONDS` is how long the first search takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from gate.store.registry import Registry
from harness.seeds import seed
from tests.simulation.__main__ import search
from tests.simulation.schedule import Event, drawn, shrunk
from tests.simulation.world import Servers, running_servers, simulate

SEED = seed(1)

SECONDS = float(os.environ.get("GATE_SIMULATE_SECONDS", "30"))
MOST_SCHEDULES = 1_000


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with running_servers() as both:
        yield both


def violation(servers: Servers) -> tuple[int, str]:
    """The first seed that finds one."""
    for number in range(SEED, SEED + MOST_SCHEDULES):
        found = simulate(servers, number, drawn(number)).violation
        if found:
            return number, found
    raise AssertionError(f"{MOST_SCHEDULES} schedules found no violation")


@pytest.mark.timeout(900)
def test_no_schedule_finds_a_violation() -> None:
    many, acknowledged, problem = search(1_000_000 + SEED, 1, time.monotonic() + SECONDS)
    assert problem == ""
    assert many > 0 and acknowledged > 0


@pytest.mark.timeout(900)
def test_live_nodes_from_a_lost_list_are_found(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "complete", property(lambda self: self.incarnation or "any"))
    number, found = violation(servers)
    assert "answered `all`" in found
    fewer = shrunk(drawn(number), lambda events: bool(simulate(servers, number, events).violation))
    assert len(fewer) < len(drawn(number))
    assert "answered `all`" in simulate(servers, number, fewer).history[-1]


def test_a_schedule_is_shrunk_to_what_fails() -> None:
    events = [Event(at_ms, "write", (1,)) for at_ms in range(20)]
    assert shrunk(events, lambda some: {3, 11} <= {event.at_ms for event in some}) == [events[3], events[11]]
