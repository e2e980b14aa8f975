"""Figures of Presence for metrics: how near leases come to their end, and how many Gateways and Sessions there are.

Every node tells those of the whole deployment, so they are compared over nodes, never summed. Pure but for what it is given.

Called by the sweeper and the sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Shown = Callable[[tuple[str, ...], int], None]
"""Shows a value under labels."""
MAX_SERIES = 200
"""Of one figure. Apps and platforms are named by others, and a series that was shown once is there until the process ends."""


class OldestBeat:
    """The largest age of a holding lease's last beat, as a share of the time that it may have: 1 is its end.

    A beat is old for a moment only, and a scrape comes now and then. So the highest of the last lease or two is told.
    """

    def __init__(self, lease_ttl_ms: int) -> None:
        self._lease_ttl_ms = lease_ttl_ms
        self._began_ms = 0
        self._oldest_ms = 0
        self._before_ms = 0

    def note(self, age_ms: int, now_ms: int) -> None:
        """One lease's, at this moment."""
        if now_ms - self._began_ms >= self._lease_ttl_ms:
            is_next = now_ms - self._began_ms < 2 * self._lease_ttl_ms
            self._before_ms = self._oldest_ms if is_next else 0
            self._began_ms, self._oldest_ms = now_ms, 0
        self._oldest_ms = max(self._oldest_ms, age_ms)

    @property
    def ratio(self) -> float:
        """0 to 1, and above where this process itself was late to look."""
        return max(self._oldest_ms, self._before_ms) / self._lease_ttl_ms


class BoundedSeries:
    """One figure under labels that others choose: the first `MAX_SERIES` of them, the largest first; the rest is summed.

    What is gone is shown as 0, since prometheus_client forgets no series that a process once had.
    """

    def __init__(self, labels: int, show: Shown) -> None:
        self._show = show
        self._rest = ("",) * labels
        self._known: dict[tuple[str, ...], None] = {}

    def set(self, values: Mapping[tuple[str, ...], int]) -> None:
        """All that there is now; what is left out is 0."""
        for labels in sorted(values, key=lambda one: (-values[one], one)):
            if len(self._known) < MAX_SERIES:
                self._known[labels] = None
        for labels in self._known:
            self._show(labels, values.get(labels, 0))
        self._show(self._rest, sum(many for labels, many in values.items() if labels not in self._known))
