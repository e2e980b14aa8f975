"""Sends calls of the same moment together: many connects at once take a few pipelines, not a round trip each.

Calls submitted in one turn of the loop are sent at its end as one pipeline, in the order of submission, with at most
`MAX_CALLS_A_BATCH` calls and about `MAX_ARGS_A_BATCH` arguments in each. All calls of a batch share one future; a
`PendingResult` has the index of its reply. A lost server fails the whole batch. A call that the server refuses fails alone.

Used by `session_service`; one per process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import msgspec

from gate.errors import StoreUnavailable, Unavailable
from gate.store.link import Reply
from gate.store.slicing import SlicedCall, Slices, answered

# Some 6 ms of the server's time, in scripts of `slicing.MAX_ROWS_A_SCRIPT` Sessions.
MAX_CALLS_A_BATCH = 512
# 1 ms of this process's time to write them: calls of a thousand arguments each would make its other work wait.
MAX_ARGS_A_BATCH = 8_192
# Pipelines that are not answered yet: enough to keep the server busy; what comes meanwhile goes along with the next.
MAX_UNDER_WAY = 4
# Batches that wait for that: past this, what is submitted is refused at once, rather than later or never.
MAX_QUEUED = 256

T = TypeVar("T")


class PendingResult(msgspec.Struct, Generic[T], frozen=True):
    """One future reply. Once `arrival` is done, `result` returns the parsed reply, or raises the failure."""

    arrival: asyncio.Future[list[Reply]]
    at: int
    """Index of its reply in the batch."""
    read: Callable[[Reply], T]
    asks_only: bool

    def result(self) -> T:
        """What the reply says. Raises `StoreUnavailable`."""
        away = self.arrival.exception()
        if self.asks_only and isinstance(away, StoreUnavailable):
            raise StoreUnavailable(str(away))  # the batch's outcome is that of what others wrote in it
        reply = self.arrival.result()[self.at]
        return self.read(answered(reply) if isinstance(reply, Exception) else reply)

    async def wait(self) -> T:
        """`result` as soon as there is one."""
        with suppress(StoreUnavailable):  # which `result` raises
            await asyncio.shield(self.arrival)
        return self.result()


class Batches:
    """All calls of one process to one Redis. `aclose` when done: it waits for what is under way."""

    def __init__(self, slices: Slices, most_under_way: int = MAX_UNDER_WAY) -> None:
        self._slices = slices
        self._most_under_way = most_under_way
        self._calls: list[SlicedCall] = []
        self._args = 0
        self._is_full = False
        self._arrival: asyncio.Future[list[Reply]] | None = None
        self._queue: deque[tuple[list[SlicedCall], asyncio.Future[list[Reply]]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    def submit(self, call: SlicedCall, read: Callable[[Reply], T], asks_only: bool = False) -> PendingResult[T]:
        """Send a call with the others of this turn; one that `asks_only` changes nothing.

        Raises `Unavailable` where too many are waited for already.
        """
        if self._arrival is None:
            if len(self._queue) >= MAX_QUEUED:
                raise Unavailable("too many calls are under way; try again")
            loop = asyncio.get_running_loop()
            self._arrival = loop.create_future()
            loop.call_soon(self._send, self._arrival)
        pending = PendingResult(self._arrival, len(self._calls), read, asks_only)
        self._calls.append(call)
        self._args += len(call.args) + len(call.parts)
        if len(self._calls) >= MAX_CALLS_A_BATCH or self._args >= MAX_ARGS_A_BATCH:
            self._is_full = True
            self._send(self._arrival)
        return pending

    async def aclose(self) -> None:
        """Wait for what is under way."""
        self._send(self._arrival)
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _send(self, turn: asyncio.Future[list[Reply]] | None) -> None:
        """End the batch of this turn, unless it was full and went before; then send what waits, as far as may be under way.

        While the server is busy, the batch goes on growing instead.
        """
        is_present = turn is not None and turn is self._arrival
        if is_present and (self._is_full or len(self._under_way) < self._most_under_way):
            assert turn is not None
            self._queue.append((self._calls, turn))
            self._calls, self._args, self._arrival, self._is_full = [], 0, None, False
        while self._queue and len(self._under_way) < self._most_under_way:
            calls, arrival = self._queue.popleft()
            task = asyncio.get_running_loop().create_task(self._exchange(calls, arrival))
            self._under_way.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        # What waits goes first: only an empty queue ends the batch that still grows.
        self._send(None if self._queue else self._arrival)

    async def _exchange(self, calls: list[SlicedCall], arrival: asyncio.Future[list[Any]]) -> None:
        try:
            arrival.set_result(await self._slices.exchange(calls))
        except Exception as problem:  # callers get a bug as well, or they would wait for ever
            arrival.set_exception(problem)
            arrival.exception()  # marks it as retrieved: all callers may have disconnected
            if not isinstance(problem, StoreUnavailable):
                raise
