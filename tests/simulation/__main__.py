"""`make simulate SEED= MINUTES=`: schedules by seed on two processes, until a violation is found or the time is over."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time

from tests.simulation.schedule import drawn, shrunk
from tests.simulation.world import Servers, running_servers, simulate

PROCESSES = 2


def search(first: int, step: int, until_s: float) -> tuple[int, int, str]:
    """Schedules of every `step`th seed: how many, acknowledged writes, and the first violation as it is shown."""
    seed, many, acknowledged = first, 0, 0
    with running_servers() as servers:
        while time.monotonic() < until_s:
            outcome = simulate(servers, seed, drawn(seed))
            many, acknowledged = many + 1, acknowledged + outcome.acknowledged
            if outcome.violation:
                return many, acknowledged, shown(servers, seed)
            seed += step
    return many, acknowledged, ""


def shown(servers: Servers, seed: int) -> str:
    """A seed that finds a violation, with its schedule shrunk and the history of that."""
    events = shrunk(drawn(seed), lambda fewer: bool(simulate(servers, seed, fewer).violation))
    outcome = simulate(servers, seed, events)
    lines = [
        f"seed {seed}: {outcome.violation}",
        "its schedule, shrunk:",
        *map(str, events),
        "its history:",
        *outcome.history,
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    until_s = time.monotonic() + given.minutes * 60
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        found = pool.starmap(search, [(given.seed + each, PROCESSES, until_s) for each in range(PROCESSES)])
    many, acknowledged = sum(each[0] for each in found), sum(each[1] for each in found)
    print(f"{many:,} schedules, {acknowledged:,} writes answered `all`, {many / given.minutes:,.0f} schedules a minute")
    problems = [each[2] for each in found if each[2]]
    print(*problems, sep="\n\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
