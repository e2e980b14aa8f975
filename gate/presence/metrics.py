"""Metrics of Presence: how near leases come to their expiry, and how many Gateways and Sessions there are.

Every node exports the values of the whole deployment, so compare them between nodes; never sum them. Pure, except for the
callbacks.

Called by the sweeper and the sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

# Exports a value with these labels.
Shown = Callable[[tuple[str, ...], int], None]
# Per metric. Callers choose the names of Apps and platforms, and a series stays exported until the process ends.
MAX_SERIES = 200


class OldestBeat:
    """The largest age of a live lease's last beat, as a share of the lease's time to live: at 1 the lease expires.

    A beat is old only for a moment, and scrapes are rare. So the highest value of the last one or two lease times is exported.
    """

    def __init__(self, lease_ttl_ms: int) -> None:
        self._lease_ttl_ms = lease_ttl_ms
        self._began_ms = 0
        self._oldest_ms = 0
        self._before_ms = 0

    def note(self, age_ms: int, now_ms: int) -> None:
        """Record the age of one lease's last beat."""
        if now_ms - self._began_ms >= self._lease_ttl_ms:
            is_next = now_ms - self._began_ms < 2 * self._lease_ttl_ms
            self._before_ms = self._oldest_ms if is_next else 0
            self._began_ms, self._oldest_ms = now_ms, 0
        self._oldest_ms = max(self._oldest_ms, age_ms)

    @property
    def ratio(self) -> float:
        """0 to 1; above 1 if this process itself looked too late."""
        return max(self._oldest_ms, self._before_ms) / self._lease_ttl_ms


class BoundedSeries:
    """One metric with labels that callers choose: the first `MAX_SERIES` of them, largest first; the rest is summed.

    A series without a value is exported as 0, since prometheus_client keeps every series of a process.
    """

    def __init__(self, labels: int, show: Shown) -> None:
        self._show = show
        self._rest = ("",) * labels
        self._known: dict[tuple[str, ...], None] = {}

    def set(self, values: Mapping[tuple[str, ...], int]) -> None:
        """Export all current values; any series not among them becomes 0."""
        for labels in sorted(values, key=lambda one: (-values[one], one)):
            if len(self._known) < MAX_SERIES:
                self._known[labels] = None
        for labels in self._known:
            self._show(labels, values.get(labels, 0))
        self._show(self._rest, sum(many for labels, many in values.items() if labels not in self._known))
