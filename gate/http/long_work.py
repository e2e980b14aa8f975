"""Room for long work, such as bulk calls: a few under way at a time, some that wait, and 503 for more.

What is short never asks here, so it waits for at most what the loop does in one turn. Called by endpoints, after the body was
read: a slow sender holds no place.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gate.errors import Unavailable

UNDER_WAY = 4
"""Enough to keep Redis busy; each more takes its turns of the loop from short requests."""
MOST_OF_AN_APP = 24
"""Under way and waiting, so that one App leaves room for others. Sixteen bulk calls of a thousand take some seconds."""
MOST = 64
WAIT_S = 20.0
"""By then a call that has not begun is refused, while its client still waits."""


class Busy(Unavailable):
    """So much long work is under way that this was not begun; nothing was done."""


class LongWork:
    """One a process."""

    def __init__(self) -> None:
        self._under_way = asyncio.Semaphore(UNDER_WAY)
        self._of_app: Counter[str] = Counter()

    @asynccontextmanager
    async def admitted(self, app_key: str) -> AsyncIterator[None]:
        """A place for one call of this App, for as long as the block lasts. `Busy` if there is none."""
        if self._of_app[app_key] >= MOST_OF_AN_APP or self._of_app.total() >= MOST:
            raise Busy("as many bulk calls are under way or waiting here as there may be; nothing of this one was done")
        self._of_app[app_key] += 1
        try:
            await self._begin()
            try:
                yield
            finally:
                self._under_way.release()
        finally:
            self._of_app[app_key] -= 1
            if not self._of_app[app_key]:
                del self._of_app[app_key]

    async def _begin(self) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                await self._under_way.acquire()
        except TimeoutError:
            raise Busy(f"other bulk calls took longer than {WAIT_S:g} s; nothing of this one was done") from None
