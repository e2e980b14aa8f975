"""GATE.MCHECKs too long for one turn: decided one after another, a slice a turn, each from the facts of one commit.

Ten thousand Users whose facts are not cached take 30 ms, for which no other check should wait; and all of one command's
answers are from the same facts. So these are read through a Reading of their own, whose transaction stays open from a command's
first slice to its last. One command at a time: so a worker holds one old commit at most, and all of them have one turn a round.

Called by `gate.wire.checks`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from gate.clock import monotonic_us
from gate.core.verdict import Word
from gate.errors import AppUnknown, Stale
from gate.replica.app_reading import AppReading
from gate.replica.reading import Reading
from gate.wire.turns import SLICE_US, Turns

PIECE = 64
"""Recipients between two looks at the clock: 0.2 ms where none is cached."""


class _FanOut:
    """One command under way."""

    __slots__ = ("app_key", "arrival", "recipients", "sender", "words")

    def __init__(self, app_key: str, sender: bytes, recipients: Sequence[bytes]) -> None:
        self.app_key = app_key
        self.sender = sender
        self.recipients = recipients
        self.words: list[Word] = []
        self.arrival: asyncio.Future[list[Word]] = asyncio.get_running_loop().create_future()


class FanOuts:
    """Those of one worker, in order of arrival."""

    def __init__(self, reading: Reading, turns: Turns, max_staleness_ms: int = 0) -> None:
        self._beside = reading
        self._max_staleness_ms = max_staleness_ms
        self._own: Reading | None = None
        self._app: AppReading | None = None
        self._turns = turns
        self._queue: deque[_FanOut] = deque()

    def submit(self, app_key: str, sender: bytes, recipients: Sequence[bytes]) -> asyncio.Future[list[Word]]:
        """The words to come; cancel it if its peer is gone."""
        fan_out = _FanOut(app_key, sender, recipients)
        self._queue.append(fan_out)
        if len(self._queue) == 1:
            self._turns.wait(self._take_turn)
        return fan_out.arrival

    def close(self) -> None:
        """Give the file back; what waits is cancelled."""
        for fan_out in self._queue:
            fan_out.arrival.cancel()
        self._queue.clear()
        if self._own is not None:
            self._own.close()

    def _take_turn(self) -> None:
        if not self._queue:
            return
        fan_out = self._queue[0]
        arrival = fan_out.arrival
        try:
            if not arrival.done():
                self._decide(fan_out)
        except Exception as fault:  # noqa: BLE001 (whose command it is gets it: a refusal is worded, a bug ends that connection)
            arrival.set_exception(fault)
        if arrival.done():
            self._end()
        if self._queue:
            self._turns.wait(self._take_turn)

    def _decide(self, fan_out: _FanOut) -> None:
        """A slice of it."""
        until_us = monotonic_us() + SLICE_US
        app = self._app or self._begin(fan_out.app_key)
        words, recipients = fan_out.words, fan_out.recipients
        while len(words) < len(recipients):
            words += app.words_to(fan_out.sender, recipients[len(words) : len(words) + PIECE])
            if monotonic_us() >= until_us:
                break
        if len(words) == len(recipients):
            fan_out.arrival.set_result(words)

    def _begin(self, app_key: str) -> AppReading:
        if self._own is None:
            self._own = Reading(self._beside.file.parent)
        limit_ms = self._max_staleness_ms
        if limit_ms and (stale_ms := self._own.stale_ms()) > limit_ms:  # it may have no way to a new file
            raise Stale(f"the Replica is {stale_ms} ms old and this deployment refuses past {limit_ms} ms")
        self._own.refresh()
        self._app = self._own.app(app_key)
        if self._app is None:
            raise AppUnknown(f"the App {app_key!r} was removed")
        return self._app

    def _end(self) -> None:
        self._queue.popleft()
        self._app = None
        if self._own is not None:
            self._own.release()
