"""The sampler: records every 15 s how many Users are online per App, for a chart of the last hour.

Every node samples; in each slot of the server's clock, the first sample is kept. The sampler sleeps until the next slot by
this process's own clock, so that no step of the server's clock makes it miss one. While Redis is unreachable there are no
samples: a gap in the chart means that the number is unknown.

Called by the background role, `run` until cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from gate.core.presence import SAMPLE_EVERY_MS
from gate.errors import StoreUnavailable
from gate.store.presence import PresenceStore

# Far shorter than a slot: the slot in which Redis is reachable again still gets its sample.
RETRY_MS = 1_000

# Gets the number of Sessions by App and platform, whichever node took the sample.
Report = Callable[[Mapping[tuple[str, ...], int]], None]


class Sampler:
    """Samples all Apps. One per process."""

    def __init__(self, store: PresenceStore, report: Report = lambda sessions: None) -> None:
        self._store = store
        self._report = report

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            try:
                next_ms = await self.sample()
            except StoreUnavailable:
                next_ms = RETRY_MS
            await asyncio.sleep(next_ms / 1_000)

    async def sample(self) -> int:
        """Sample each App that has no sample in this slot. Returns the ms until the next slot. Raises `StoreUnavailable`."""
        sessions: dict[tuple[str, ...], int] = {}
        since_ms = await self._store.server_ms() - SAMPLE_EVERY_MS
        for app in await self._store.apps():
            await self._store.sample(app)
            for newest in (await self._store.history(app, since_ms))[-1:]:
                sessions |= {(app, platform): many for platform, many in newest.by_platform().items()}
        self._report(sessions)
        return SAMPLE_EVERY_MS - await self._store.server_ms() % SAMPLE_EVERY_MS
