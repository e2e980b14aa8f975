"""Schedules of events for Gate, its network and its servers; drawn by a seed, and shrunk."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

NODES = ("node-1", "node-2")
WRITERS = ("writer", "command")
ACTORS = (*NODES, *WRITERS)
LENGTH_MS = 7_000
FAULTS = ("flush", "restart", "failover", "failover", "cut", "cut", "slow", "slow")
OLD_PRIMARY = ("lives", "demoted", "demoted", "dies")


class Event(NamedTuple):
    """One entry. `arguments` are those of the method of `World` that `what` names."""

    at_ms: int
    what: str
    arguments: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        return f"{self.at_ms:>6} ms  {self.what} {' '.join(map(str, self.arguments))}".rstrip()


def drawn(seed: int) -> list[Event]:
    """The schedule of a seed: three to seven writes, and one to three faults."""
    draw = random.Random(seed)
    events = [
        Event(0, "start", ("node-1",)),
        Event(draw.choice([0, 0, draw.randrange(LENGTH_MS)]), "start", ("node-2",)),
    ]
    for _ in range(draw.randint(3, 7)):
        # By the writer that is there all the time, or by one that starts for it, as a command of `gate` does.
        what, wait_ms = draw.choice(["write", "write", "command"]), draw.choice([300, 1_000, 4_000])
        events.append(Event(draw.randrange(200, LENGTH_MS), what, (wait_ms,)))
    events += [Event(draw.randrange(100, LENGTH_MS), "save") for _ in range(draw.randint(0, 2))]
    for _ in range(draw.randint(1, 3)):
        events.append(_fault(draw))
    if draw.random() < 0.15:
        events.append(Event(draw.randrange(1_000, LENGTH_MS), "stop", (draw.choice(NODES),)))
    return sorted(events, key=lambda event: event.at_ms)


def _fault(draw: random.Random) -> Event:
    at_ms, what = draw.randrange(300, LENGTH_MS - 1_000), draw.choice(FAULTS)
    if what == "failover":
        old = draw.choice(OLD_PRIMARY)
        # When the address leads each of them to the new one, ms after the promotion. While the old primary takes writes as
        # well, it leads all of them to one server: two for longer than a lease are two deployments.
        late = [draw.choice([0, draw.randrange(1_500), 2 * LENGTH_MS]) for _ in ACTORS]
        return Event(
            at_ms, what, (old, draw.randrange(1_500), *([late[0] % 1_500] * len(late) if old == "lives" else late))
        )
    if what == "cut":
        return Event(at_ms, what, (draw.choice(ACTORS),))
    if what == "slow":
        return Event(at_ms, what, (draw.choice(ACTORS), draw.choice([50, 400, 1_500]), draw.randrange(3_000)))
    return Event(at_ms, what)


def shrunk(events: list[Event], fails: Callable[[list[Event]], bool]) -> list[Event]:
    """Fewer entries that still fail: halves first, then single ones, until none can be omitted."""
    size = len(events) // 2
    while size:
        at = 0
        while at < len(events):
            fewer = events[:at] + events[at + size :]
            if fails(fewer):
                events = fewer
            else:
                at += size
        size //= 2
    return events
