"""What is too long for one turn: decided piece by piece, a slice a turn, each command from the facts of one commit.

Ten thousand Users whose facts are not cached take 30 ms, for which no other check should wait; and all of one command's
answers are from the same facts. So a long GATE.MCHECK and a long EXEC are read through a Reading of their own, whose
transaction stays open from a command's first slice to its last. One command at a time: so a worker holds one old commit at
most, and all of them have one turn a round.

Called by `gate.wire.checks` and `gate.wire.transactions`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from gate.clock import monotonic_us
from gate.errors import AppUnknown
from gate.replica.app_reading import AppReading
from gate.replica.reading import Reading
from gate.wire.turns import SLICE_US, Turns

# Recipients between two looks at the clock: 0.2 ms where none is cached.
PIECE = 64

# Yields after each piece, and returns the result.
Pieces = Generator[None, None, Any]


class View(NamedTuple):
    """What one command is read from."""

    reading: Reading
    app: AppReading
    stale_ms: int
    """Read before the facts."""


class _LongRead:
    """One command under way."""

    __slots__ = ("app_key", "arrival", "begin")

    def __init__(self, app_key: str, begin: Callable[[View], Pieces]) -> None:
        self.app_key = app_key
        self.begin = begin
        self.arrival: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class LongReads:
    """Those of one worker, in order of arrival."""

    def __init__(self, reading: Reading, turns: Turns) -> None:
        self._shared = reading
        self.own_reading: Reading | None = None
        self._pieces: Pieces | None = None
        self.turns = turns
        self._queue: deque[_LongRead] = deque()

    @property
    def is_under_way(self) -> bool:
        """Whether the first of them has begun."""
        return self._pieces is not None

    @property
    def waiting(self) -> int:
        """How many there are, the one under way included."""
        return len(self._queue)

    def submit(self, app_key: str, begin: Callable[[View], Pieces]) -> asyncio.Future[Any]:
        """What the pieces return; cancel it if its peer is gone."""
        long_read = _LongRead(app_key, begin)
        self._queue.append(long_read)
        # With others in front, the turn of the first one asks for the next.
        if len(self._queue) == 1:
            self.turns.wait(self._take_turn)
        return long_read.arrival

    def close(self) -> None:
        """Give the file back; what waits is cancelled."""
        for long_read in self._queue:
            long_read.arrival.cancel()
        self._queue.clear()
        if self.own_reading is not None:
            self.own_reading.close()

    def _take_turn(self) -> None:
        if not self._queue:
            return
        long_read = self._queue[0]
        arrival = long_read.arrival
        try:
            if not arrival.done():
                self._work(long_read)
        except Exception as fault:  # noqa: BLE001 (the caller gets it: a refusal as an error; a bug ends the connection)
            arrival.set_exception(fault)
        # Also where its peer cancelled it meanwhile: its transaction must not stay open.
        if arrival.done():
            self._end()
        if self._queue:
            self.turns.wait(self._take_turn)

    def _work(self, long_read: _LongRead) -> None:
        """A slice of it."""
        until_us = monotonic_us() + SLICE_US
        if self._pieces is None:
            self._pieces = long_read.begin(self._view(long_read.app_key))
        try:
            next(self._pieces)
            while monotonic_us() < until_us:
                next(self._pieces)
        except StopIteration as end:
            long_read.arrival.set_result(end.value)

    def _view(self, app_key: str) -> View:
        if self.own_reading is None:
            self.own_reading = Reading(self._shared.file.parent)
            self.own_reading.shadows = self._shared.shadows
        stale_ms = self.own_reading.stale_ms()  # it may have no way to a new file
        self.own_reading.refresh()
        app = self.own_reading.app(app_key)
        if app is None:
            raise AppUnknown(f"the App {app_key!r} was removed")
        return View(self.own_reading, app, stale_ms)

    def _end(self) -> None:
        self._queue.popleft()
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None
        if self.own_reading is not None:
            self.own_reading.release()
