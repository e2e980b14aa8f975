"""Turns of the connections to which this process sends something by itself: some in each pass of the loop, in order.

A User whom ten thousand connections watch is ten thousand messages; sent in one pass they would hold up every request. One task
a process gives the turns. With a `share` it also sleeps between them, so that long looks take no more of a processor than that.

Pings to all WebSockets are turns as well: one task looks who is due, which is cheaper than a timer each.

Called by `client.websocket`, `client.watcher` and `client.renewal`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from itertools import count
from time import perf_counter

# Some 2 ms of messages; then whatever else is ready has its turn.
TURNS_A_PASS = 32
# Between two looks: ten thousand clients are pinged by twos so, not by hundreds in one pass.
LEAST_WAIT_S = 0.005

# Takes its turn without waiting for the client; seconds to its next turn, None for no more.
Turn = Callable[[], Awaitable[float | None]]


class Pushing:
    """Who has a turn when."""

    def __init__(self, share: float = 1.0) -> None:
        """`share` of a processor that turns may take, of 1."""
        self._rest = 1 / share - 1
        self._due: list[tuple[float, int, Turn]] = []
        """A heap of moments of the loop's clock. The number keeps two of one moment apart, and in order."""
        self._numbers = count()
        self._more = asyncio.Event()
        self._going: asyncio.Task[None] | None = None

    def add(self, turn: Turn, in_s: float = 0.0) -> None:
        """Give it a turn, in so long."""
        entry = asyncio.get_running_loop().time() + in_s, next(self._numbers), turn
        heappush(self._due, entry)
        # Only if it is due before all others: in a storm of connects the task would be woken for each.
        if self._due[0] is entry:
            self._more.set()
        if self._going is None or self._going.done():
            self._going = asyncio.create_task(self._go_round(), name="pushes")

    async def aclose(self) -> None:
        """Give no more turns."""
        if self._going is not None:
            self._going.cancel()
            await asyncio.wait([self._going])

    async def _go_round(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._due:
            self._more.clear()
            wait_s = self._due[0][0] - clock()
            if wait_s > 0:
                # A turn that is due sooner may be added meanwhile.
                try:
                    async with asyncio.timeout(max(LEAST_WAIT_S, wait_s)):
                        await self._more.wait()
                except TimeoutError:
                    pass
                continue
            started_s = perf_counter()
            for _ in range(TURNS_A_PASS if not self._rest else 1):
                if not self._due or self._due[0][0] > clock():
                    break
                _, _, turn = heappop(self._due)
                again_in_s = await turn()
                if again_in_s is not None:
                    heappush(self._due, (clock() + again_in_s, next(self._numbers), turn))
            await asyncio.sleep(self._rest * (perf_counter() - started_s))
