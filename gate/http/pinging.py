"""Pings to all WebSockets of this process, each of them once in `PING_EVERY_S`, so that ten thousand never come at once.

A client that has not answered the previous ping is disconnected. The interval is therefore also the reply timeout.
A new client is first pinged after a random part of the interval; else clients that connected in one storm would be pinged in
one moment, for ever. One task a process looks which are due, which is cheaper than a timer each.

Called by `client.websocket`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from itertools import count

PING_EVERY_S = 25.0
"""Shorter than the idle limits of usual proxies, 30 to 60 s."""
LOOKS_A_ROUND = 100
"""How often in `PING_EVERY_S` to look who is due, at least: somebody may come who is due before all others."""
LEAST_WAIT_S = 0.005
"""Between two looks. Ten thousand clients are pinged by twos so, not by hundreds in one turn, which checks on the same
processors would have to wait for."""


Ping = Callable[[], Awaitable[bool]]
"""Sends a ping to one connection; False once that is gone."""


class Pinging:
    """Who is pinged when. `draw` gives numbers from 0 to 1."""

    def __init__(self, every_s: float = PING_EVERY_S, draw: Callable[[], float] = random.random) -> None:
        self._every_s = every_s
        self._draw = draw
        self._due: list[tuple[float, int, Ping]] = []
        """A heap of moments of the loop's clock. The number keeps two of one moment apart."""
        self._numbers = count()
        self._going: asyncio.Task[None] | None = None

    def add(self, ping: Ping) -> None:
        """Ping a connection until it is gone."""
        first_in_s = self._every_s * self._draw()
        heappush(self._due, (asyncio.get_running_loop().time() + first_in_s, next(self._numbers), ping))
        if self._going is None or self._going.done():
            self._going = asyncio.create_task(self._go_round(), name="pings")

    async def aclose(self) -> None:
        """Stop pinging."""
        if self._going is not None:
            self._going.cancel()
            await asyncio.wait([self._going])

    async def _go_round(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._due:
            next_in_s = max(LEAST_WAIT_S, self._due[0][0] - clock())
            await asyncio.sleep(min(next_in_s, self._every_s / LOOKS_A_ROUND))
            while self._due and self._due[0][0] <= clock():
                _, _, ping = heappop(self._due)
                if await ping():
                    # From now on, not from when it was due: each has its whole time for an answer.
                    heappush(self._due, (clock() + self._every_s, next(self._numbers), ping))
