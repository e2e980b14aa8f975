"""The sampler: notes every quarter of a minute how many are online, App by App, so that a line over the last hour can be drawn.

Every node samples; the first in a slot of the server's clock is the one that counts. It sleeps until the next slot by this
process's own clock, so that no step of that clock makes it miss one. While Redis is away there are no samples: a gap says that
nobody knew.

Called by the background role, `run` until cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from gate.core.presence import SAMPLE_EVERY_MS
from gate.errors import StoreUnavailable
from gate.store.presence import PresenceStore

RETRY_MS = 1_000
"""Short of a slot by far: the slot in which Redis comes back still gets its sample."""

Told = Callable[[Mapping[tuple[str, ...], int]], None]
"""Is told how many Sessions there are by App and platform, whoever took the sample."""


class Sampler:
    """One a process."""

    def __init__(self, store: PresenceStore, tell: Told = lambda sessions: None) -> None:
        self._store = store
        self._tell = tell

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            try:
                next_ms = await self.sample()
            except StoreUnavailable:
                next_ms = RETRY_MS
            await asyncio.sleep(next_ms / 1_000)

    async def sample(self) -> int:
        """Sample each App, unless that is done in this slot; in how many ms the next begins. Raises `StoreUnavailable`."""
        sessions: dict[tuple[str, ...], int] = {}
        since_ms = await self._store.server_ms() - SAMPLE_EVERY_MS
        for app in await self._store.apps():
            await self._store.sample(app)
            for newest in (await self._store.history(app, since_ms))[-1:]:
                sessions |= {(app, platform): many for platform, many in newest.by_platform().items()}
        self._tell(sessions)
        return SAMPLE_EVERY_MS - await self._store.server_ms() % SAMPLE_EVERY_MS
