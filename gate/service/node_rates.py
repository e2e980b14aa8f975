"""How much a node does, by what its processes count (`gate.service.metrics_directory`): rates, and samples of the last hour.

The replicator keeps both for the node's report (`gate.store.node_reports`); `gate top` takes two counts itself.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gate.clock import monotonic_ms, wall_ms
from gate.service.metrics_directory import samples_in
from gate.service.running import RUN_FOLDER
from gate.store.node_reports import MAX_SAMPLES, SAMPLE_EVERY_MS, NodeSample

RATE_OVER_S = 5.0
# As `gate.metrics` names them; not imported from there, since a replicator needs nothing else of it.
CHECKS, CHECK_TIME, APPLIED, ACK, HTTP = (
    "gate_checks_total",
    "gate_check_seconds",
    "gate_write_applied_total",
    "gate_write_ack_seconds",
    "gate_http_request_seconds",
)
# As prometheus_client names them in its files: a counter without the end that its sample has.
_METRICS = (CHECKS.removesuffix("_total"), CHECK_TIME, APPLIED.removesuffix("_total"), ACK, HTTP)


# Groups of HTTP requests whose times are those for which a stream was open.
_OPEN_FOR_HOURS = frozenset(("events", "websocket", "console"))


class Counts(NamedTuple):
    """What all processes of a node had counted at a moment."""

    at_ms: int
    of: dict[tuple[str, str], float]


class Rates(NamedTuple):
    """What two counts say of the time between them. A mean is None where there was nothing to take it of."""

    checks_per_s: float
    verdicts_per_s: dict[str, float]
    check_us: float | None
    """Of checks that came together, on either port."""
    writes_per_s: float
    write_ack_ms: float | None
    http_per_s: float
    http_ms: float | None


def metrics_folders(data: Path) -> list[Path]:
    """Where the services in this data directory count."""
    return sorted((data / RUN_FOLDER).glob("*/metrics"))


def counts_now(data: Path) -> Counts:
    """What is counted by now."""
    total: defaultdict[tuple[str, str], float] = defaultdict(float)
    for folder in metrics_folders(data):
        for key, value in samples_in(folder, _METRICS).items():
            total[key] += value
    return Counts(monotonic_ms(), total)


def rates_between(before: Counts, now: Counts) -> Rates:
    """The rates. A counter that went back, as of a service that was restarted, counts as unmoved."""
    # At least 1 ms, since two counts may be of one moment.
    seconds = max(1, now.at_ms - before.at_ms) / 1_000
    grown = {
        key: max(0.0, value - before.of.get(key, 0.0))
        for key, value in now.of.items()
        if not (key[0].startswith(HTTP) and key[1].partition(" ")[0] in _OPEN_FOR_HOURS)
    }

    def of(name: str) -> float:
        return sum(value for (sample, _), value in grown.items() if sample == name)

    def mean(name: str, unit: float) -> float | None:
        count = of(f"{name}_bucket")
        return of(f"{name}_sum") / count * unit if count else None

    verdicts = {labels: value / seconds for (sample, labels), value in sorted(grown.items()) if sample == CHECKS}
    return Rates(
        checks_per_s=sum(verdicts.values()),
        verdicts_per_s=verdicts,
        check_us=mean(CHECK_TIME, 1_000_000),
        writes_per_s=of(APPLIED) / seconds,
        write_ack_ms=mean(ACK, 1_000),
        http_per_s=of(f"{HTTP}_bucket") / seconds,
        http_ms=mean(HTTP, 1_000),
    )


class NodeRates:
    """A node's rates over the last 5 to 10 seconds, and its samples of the last hour."""

    def __init__(self, data: Path, lag: Callable[[], tuple[int, int]] = lambda: (0, 0)) -> None:
        self._data = data
        self._lag = lag
        self._counts: deque[Counts] = deque(maxlen=2)
        self._sampled: Counts | None = None
        self.samples: deque[NodeSample] = deque(maxlen=MAX_SAMPLES)

    async def keep(self, every_s: float = RATE_OVER_S) -> None:
        """Count for ever."""
        while True:
            self._counts.append(counts_now(self._data))
            self.take_sample(self._counts[-1], wall_ms() // SAMPLE_EVERY_MS * SAMPLE_EVERY_MS)
            await asyncio.sleep(every_s)

    def now(self) -> Rates | None:
        """None before the first count has an age."""
        counts = counts_now(self._data)
        # Over less than a second one check more or less is a large rate.
        if not self._counts or counts.at_ms - self._counts[0].at_ms < 1_000:
            return None
        return rates_between(self._counts[0], counts)

    def take_sample(self, counts: Counts, slot_ms: int) -> None:
        """Keep a sample of the time up to these counts, the first one of its slot."""
        if self.samples and self.samples[-1].at_ms >= slot_ms:  # the same slot, or the clock stepped back
            return
        before, self._sampled = self._sampled, counts
        if before is not None:
            rates, (lag, stale_ms) = rates_between(before, counts), self._lag()
            self.samples.append(NodeSample(slot_ms, rates.verdicts_per_s, lag, stale_ms, rates.check_us))
