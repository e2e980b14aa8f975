"""How the number of users moves over a run: a rise, a working day, a reconnect storm, the night."""

from __future__ import annotations

from locust import LoadTestShape

from loadtests.users.target import run_seconds

# Share of the run at which a stage ends, users in it, users that start or stop each second.
STAGES = ((0.15, 14, 2), (0.55, 28, 4), (0.70, 70, 40), (0.95, 28, 40), (1.0, 7, 20))


class Day(LoadTestShape):
    """Stages as shares of the whole run, so that a run of any length has them all."""

    def tick(self) -> tuple[int, float] | None:
        elapsed = self.get_run_time() / run_seconds()  # type: ignore[no-untyped-call]
        for end, users, spawn_rate in STAGES:
            if elapsed < end:
                return users, spawn_rate
        return None
