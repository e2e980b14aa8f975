"""Room for what lasts: bulk calls, event streams that may be open for hours, and WebSockets without a Token so far.

Each App has a share of the first two, each address one of the last.

Short requests never ask here. Called by the endpoints concerned, and by the application when it is shut down.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from gate.errors import GateError, Unavailable
from gate.http.limits import network_of

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
        """A place for one call of this App, for as long as the block lasts. `Busy` if all are taken."""
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


AUTHENTICATE_WITHIN_S = 5.0
"""By then the Token must have come: some round trips of a bad mobile network."""
MAX_UNAUTHENTICATED_AN_ADDRESS = 100
"""At the same time in one process. An office or a mobile network shares an address."""
MAX_UNAUTHENTICATED = 500
"""Of one process: 64 MB if each of them sends the longest message slowly."""


class Unauthenticated:
    """WebSockets whose clients have not sent their Token yet.

    If there are as many as there may be, one is closed for the newcomer: the oldest of the address that has most of them. So a
    flood from few addresses closes its own, and one from many is outrun by a client that sends its Token within a round trip.
    """

    def __init__(self) -> None:
        self._of_network: dict[str, dict[asyncio.Timeout, None]] = {}
        """Their deadlines by address, the oldest first."""
        self.many = 0
        """How many there are now."""
        self._leaving: Counter[str] = Counter()
        """Those whose refusal they have not confirmed, by address."""

    @asynccontextmanager
    async def admitted(self, address: str, most: int = MAX_UNAUTHENTICATED) -> AsyncIterator[None]:
        """Room for one, for as long as the block lasts, which is bounded.

        Raises `TimeoutError` past that time, and `Unavailable` if the place is needed or the address has too many.
        """
        network, deadline = network_of(address), asyncio.timeout(AUTHENTICATE_WITHIN_S)
        if len(self._of_network.get(network, ())) >= MAX_UNAUTHENTICATED_AN_ADDRESS:
            raise Unavailable(
                f"{MAX_UNAUTHENTICATED_AN_ADDRESS} WebSockets from this address have sent no Token yet: "
                "connect again later, or send the Token with the handshake"
            )
        while self.many >= max(1, most):
            self._end(max(self._of_network, key=lambda one: len(self._of_network[one])))
        self._of_network.setdefault(network, {})[deadline] = None
        self.many += 1
        try:
            async with deadline:
                yield
        except TimeoutError:
            if not self._has(network, deadline):
                raise Unavailable("this node needs the place of this WebSocket: connect again") from None
            raise
        finally:
            if self._has(network, deadline):
                self._remove(network, deadline)

    @contextmanager
    def leaving(self, address: str) -> Iterator[bool]:
        """One that is refused, for as long as the block lasts; False where so many linger that this one must not."""
        network = network_of(address)
        self._leaving[network] += 1
        try:
            is_crowded = self._leaving.total() > MAX_UNAUTHENTICATED
            yield not is_crowded and self._leaving[network] <= MAX_UNAUTHENTICATED_AN_ADDRESS
        finally:
            self._leaving[network] -= 1
            if not self._leaving[network]:
                del self._leaving[network]

    def end_all(self) -> None:
        """Close all of them; the node is shutting down."""
        while self._of_network:
            self._end(next(iter(self._of_network)))

    def _has(self, network: str, deadline: asyncio.Timeout) -> bool:
        return deadline in self._of_network.get(network, ())

    def _end(self, network: str) -> None:
        oldest = next(iter(self._of_network[network]))
        self._remove(network, oldest)
        oldest.reschedule(0)  # a moment in the past: its block ends with `TimeoutError`

    def _remove(self, network: str, deadline: asyncio.Timeout) -> None:
        deadlines = self._of_network[network]
        del deadlines[deadline]
        self.many -= 1
        if not deadlines:
            del self._of_network[network]
