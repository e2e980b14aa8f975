"""Shadow mode in one process: denials that were answered `allowed` become a metric, some log lines, and counts in Redis.

A check only adds to counts in memory (`gate.replica.shadow`). They are taken every second, and written to Redis every
`FLUSH_EVERY_S`. While Redis is away they wait here, by App and hour, in bounded memory. A process that is killed loses those of
its last seconds.

One a process: of the roles `worker` and `http`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from gate.clock import monotonic_ms, wall_ms
from gate.core.ids import shown
from gate.core.shadow import HOUR_MS, ShadowCounts
from gate.core.verdict import Word
from gate.errors import StoreUnavailable
from gate.metrics import SHADOW_DENIALS
from gate.replica.shadow import Shadows
from gate.store.client import Client
from gate.store.shadow import add_shadow_counts

TAKE_EVERY_S = 1.0
FLUSH_EVERY_S = 5.0
# How long a process that ends waits for Redis.
FINISH_WITHIN_S = 1.0
# Pairs of App and hour that wait for Redis: some 40 MB at the worst. Past it the oldest are dropped.
MAX_PENDING = 1_000
MAX_LINES_A_SECOND = 5
_SECOND_MS = 1_000

_log = structlog.get_logger("gate.shadow")


class ShadowReporter:
    """What takes the counts of `shadows`. `before` is called first, to add what other code has counted."""

    def __init__(
        self,
        shadows: Shadows,
        before: Callable[[], object] = lambda: None,
        now_ms: Callable[[], int] = wall_ms,
        monotonic: Callable[[], int] = monotonic_ms,
    ) -> None:
        self._shadows = shadows
        self._before = before
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._pending: dict[tuple[str, int], ShadowCounts] = {}
        self._second_began_ms = -_SECOND_MS
        self._lines = self._left_out = 0
        self.client: Client | None = None
        """The Redis of Presence, once it was reached."""
        shadows.on_denial = self._log_denial

    @property
    def pending(self) -> int:
        """How many pairs of App and hour wait for Redis."""
        return len(self._pending)

    def take(self) -> None:
        """Take what was counted since the last time."""
        self._before()
        # Of the moment at which they are taken, at most a second after the checks.
        hour = self._now_ms() // HOUR_MS
        for app_key, counts in self._shadows.take().items():
            for reason, many in counts.reasons.items():
                SHADOW_DENIALS.labels(reason).inc(many)
            self._pending.setdefault((app_key, hour), ShadowCounts()).add(counts)
        while len(self._pending) > MAX_PENDING:
            # The oldest: a dict keeps the order in which pairs came.
            del self._pending[next(iter(self._pending))]

    async def flush(self) -> None:
        """Add all pending counts to those in Redis. Raises `StoreUnavailable`; what was not written then is still pending."""
        if self.client is None:
            return
        for key, counts in list(self._pending.items()):
            # Taken out first, for counts that come meanwhile; a write of unknown outcome is not repeated, so none counts twice.
            del self._pending[key]
            try:
                await add_shadow_counts(self.client, *key, counts)
            except StoreUnavailable as away:
                if away.outcome == "not-written":
                    counts.add(self._pending.get(key, ShadowCounts()))
                    self._pending[key] = counts
                raise

    async def run(self) -> None:
        """Take and flush until cancelled."""
        rounds = 0
        while True:
            await asyncio.sleep(TAKE_EVERY_S)
            self.take()
            rounds += 1
            if rounds % (FLUSH_EVERY_S // TAKE_EVERY_S) == 0:
                with suppress(StoreUnavailable):  # the next round will do
                    await self.flush()

    async def finish(self) -> None:
        """The last counts of a process that ends, if Redis answers."""
        self.take()
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(FINISH_WITHIN_S):
                await self.flush()

    def _log_denial(self, app_key: str, sender: bytes, recipient: bytes, word: Word) -> None:
        now_ms = self._monotonic()
        if now_ms - self._second_began_ms >= _SECOND_MS:
            self._second_began_ms, self._lines = now_ms, 0
        if self._lines == MAX_LINES_A_SECOND:
            self._left_out += 1
            return
        self._lines += 1
        fields = {"app": app_key, "from": shown(sender), "to": shown(recipient), "reason": word}
        if self._left_out:
            fields["left_out"] = str(self._left_out)
            self._left_out = 0
        _log.info("shadow-denied", **fields)
