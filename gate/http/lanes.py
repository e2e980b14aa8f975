"""One at a time, the better ones first: who waits for work that is dear, in lanes of falling trust.

A lane is served when those before it are empty, and the last one at a pace of its own besides, so that a flood there leaves the
processor to others. Each lane has a bounded room and each wait a deadline: past them, `LanesFull`. Called by `operators`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gate.errors import GateError

ROOM = 64
"""Of each lane but the last: some two seconds' worth of password verifications."""
LAST_ROOM = 32
LAST_EVERY_S = 0.25
"""Between the end of one turn of the last lane and the next: a tenth of a processor's time for verifications. Times the number
of processes that have such lanes."""
WAIT_S = 20.0


class LanesFull(GateError):
    """Too many wait in this lane, or it was not served in time."""


class Lanes:
    """Lane 0 is served first."""

    def __init__(self, lanes: int, processes: int = 1) -> None:
        self._last_every_s = LAST_EVERY_S * processes
        self._waiting: list[deque[asyncio.Future[None]]] = [deque() for _ in range(lanes)]
        self._is_busy = False
        self._last_from_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, lane: int) -> AsyncIterator[None]:
        """This lane's turn, for as long as the block lasts."""
        await self._admitted(lane)
        try:
            yield
        finally:
            self._end(lane)

    async def _admitted(self, lane: int) -> None:
        waiting = self._waiting[lane]
        if len(waiting) >= (LAST_ROOM if self._is_last(lane) else ROOM):
            raise LanesFull
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        self._go_on()
        try:
            async with asyncio.timeout(WAIT_S):
                await turn
        except BaseException as fault:
            if turn.done() and not turn.cancelled():  # it came together with the deadline
                self._end(lane)
            elif turn in waiting:
                waiting.remove(turn)
            if isinstance(fault, TimeoutError):
                raise LanesFull from None
            raise

    def _end(self, lane: int) -> None:
        self._is_busy = False
        if self._is_last(lane):
            self._last_from_s = asyncio.get_running_loop().time() + self._last_every_s
        self._go_on()

    def _go_on(self) -> None:
        for lane, waiting in enumerate(self._waiting):
            while waiting and not self._is_busy:
                if self._is_last(lane) and self._must_wait():
                    return
                turn = waiting.popleft()
                if not turn.done():
                    self._is_busy = True
                    turn.set_result(None)

    def _must_wait(self) -> bool:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._last_from_s:
            return False
        if self._timer is None:
            self._timer = loop.call_at(self._last_from_s, self._wake)
        return True

    def _wake(self) -> None:
        self._timer = None
        self._last_from_s = min(self._last_from_s, asyncio.get_running_loop().time())
        self._go_on()

    def _is_last(self, lane: int) -> bool:
        return lane == len(self._waiting) - 1
