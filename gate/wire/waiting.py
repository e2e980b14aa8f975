"""A check that demands a Revision (`MIN`) which is not applied here yet: it waits, and later commands wait behind it.

One deadline for everything that was received together, not one a check. Used by `gate.wire.connection`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gate.clock import monotonic_ms
from gate.errors import GateError, Stale
from gate.replica.positions import reaches
from gate.wire.checks import RevisionDemand
from gate.wire.client import Worker
from gate.wire.refusals import refused

# How long a check waits for the Revision it demands: a hundred times what replication takes, yet a router can bear it.
MIN_WAIT_MS = 100
# Pause before the first look at the Replica while a check waits: about what one replication takes. Each is twice the last.
MIN_POLL_S = 0.001
# Longest pause between two looks: a thousand connections that wait must not keep a worker busy with looking.
MAX_POLL_S = 0.016
# So long after a deadline what comes was not received together with what waited, also in a pipeline that never pauses.
TOGETHER_MS = 1_000


class RevisionWait:
    """One connection's; calls `on_over` when the check that waits should be answered."""

    __slots__ = ("_demand", "_on_over", "_retry", "_worker", "deadline_ms", "is_on")

    def __init__(self, worker: Worker, on_over: Callable[[], None]) -> None:
        self._worker = worker
        self._on_over = on_over
        self._demand: RevisionDemand | None = None
        self.deadline_ms = 0
        """Of what was received together; 0 where none of it had to wait."""
        self._retry: asyncio.TimerHandle | None = None
        self.is_on = False
        """Whether a check waits."""

    @property
    def is_over(self) -> bool:
        """Whether what was received together has waited as long as it may."""
        return self.deadline_ms != 0 and monotonic_ms() >= self.deadline_ms

    @property
    def looks_again(self) -> bool:
        """Whether a next look at the Replica is due."""
        return self._retry is not None and not self._retry.cancelled()

    def begin(self, demand: RevisionDemand) -> None:
        """Wait for it."""
        self._demand, self.is_on = demand, True
        self.deadline_ms = self.deadline_ms or monotonic_ms() + MIN_WAIT_MS
        self._look_later(MIN_POLL_S)

    def received(self, *, is_rest: bool) -> None:
        """Bytes came; `is_rest` if the peer had sent more than one turn takes: then they share the deadline, for a while."""
        if self.deadline_ms and not (is_rest and monotonic_ms() < self.deadline_ms + TOGETHER_MS):
            self.deadline_ms = 0

    def cancel(self) -> None:
        """The peer is gone."""
        self._demand, self.is_on = None, False
        if self._retry is not None:
            self._retry.cancel()

    def _look_later(self, pause_s: float) -> None:
        self._retry = asyncio.get_running_loop().call_later(pause_s, self._look_again, pause_s)

    def _look_again(self, pause_s: float) -> None:
        """Take the waiting check up again, unless its Revision is still to come and there is time."""
        self._retry = None
        if self._demand is None:
            return
        if not self.is_over and self._is_still_to_come(self._demand):
            self._look_later(min(2 * pause_s, MAX_POLL_S))
            return
        # Off before the call, which may begin the next wait.
        self._demand, self.is_on = None, False
        self._on_over()

    def _is_still_to_come(self, demand: RevisionDemand) -> bool:
        reading = self._worker.reading
        try:
            reading.refresh()
            return reaches(reading, demand.revisions) is False
        except GateError:
            return False  # the check itself will say what is wrong
        finally:
            reading.release()


def too_late(worker: Worker, demand: RevisionDemand) -> bytes:
    """The error reply for a check whose Revision did not come in time."""
    worker.errors += 1
    return refused(
        Stale(f"this Replica has not applied {demand.text} within {MIN_WAIT_MS} ms: ask again, or another node")
    )
