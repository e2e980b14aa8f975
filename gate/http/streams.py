"""The event streams that are open in this process: how many an App may have, and their end when the service drains.

A stream is a connection that may be idle for hours, and each costs this process memory and a wake-up for every change of its
App. Called by the endpoints that stream, and by the application when it is shut down.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gate.errors import GateError, Unavailable

MAX_STREAMS = 1_000
"""Of one App in one process. An App needs one for each of its own servers, and some for people who look on."""
RETRY_AFTER_S = 5


class StreamsFull(GateError):
    """The App has as many streams open in this process as it may."""

    retry_after_s = RETRY_AFTER_S

    def __init__(self, most: int) -> None:
        super().__init__(f"the App has {most} event streams open in this HTTP process, which is the most; close some")


class Streams:
    """Counts streams, App by App."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self.ending = asyncio.Event()
        """Set once all of them are to end."""

    @contextmanager
    def admitted(self, app_key: str) -> Iterator[None]:
        """Room for one stream, for as long as the block lasts. `StreamsFull`, or `Unavailable` during a drain."""
        if self.ending.is_set():
            raise Unavailable("this node is shutting down: connect to another")
        if self._open[app_key] >= MAX_STREAMS:
            raise StreamsFull(MAX_STREAMS)
        self._open[app_key] += 1
        try:
            yield
        finally:
            self._open[app_key] -= 1
            if not self._open[app_key]:
                del self._open[app_key]

    def end_all(self) -> None:
        """Let every stream end in order, and admit none."""
        self.ending.set()
