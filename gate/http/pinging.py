"""Pings to all WebSockets of this process, one after another round a ring, so that ten thousand never come at once.

Each is pinged about once in `PING_EVERY_S`; one that was not heard of since the time before is put out. A timer for each would
let those who connected in one storm be pinged in one moment, for ever. Called by `client.websocket`; one task a process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

PING_EVERY_S = 25.0
"""Shorter than the idle limits of usual proxies, 30 to 60 s."""
STEP_S = 0.25


class Pinged(Protocol):
    """A connection."""

    async def ping(self) -> bool:
        """Ask for a sign of life; False once it is gone."""
        ...


class Pinging:
    """The ring."""

    def __init__(self, every_s: float = PING_EVERY_S) -> None:
        self._steps = max(1, round(every_s / STEP_S))
        self._step_s = every_s / self._steps
        self._ring: deque[Pinged] = deque()
        self._going: asyncio.Task[None] | None = None

    def add(self, client: Pinged) -> None:
        """It comes last, hence is pinged when everybody has been."""
        self._ring.append(client)
        if self._going is None or self._going.done():
            self._going = asyncio.create_task(self._go_round(), name="pings")

    async def aclose(self) -> None:
        """Ping nobody any more."""
        if self._going is not None:
            self._going.cancel()
            await asyncio.wait([self._going])

    async def _go_round(self) -> None:
        while self._ring:
            await asyncio.sleep(self._step_s)
            for _ in range(-(-len(self._ring) // self._steps)):
                client = self._ring.popleft()
                if await client.ping():
                    self._ring.append(client)
