"""Clients with WebSockets of their own, in the test's process: they come, go, drop, and come back from whatever befalls them.

For `test_presence_chaos`, which kills what they are connected to.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from tests.harness.websocket import Refused, Socket, connect

HELD_S = (0.05, 1.0)
"""How long a client stays, until they settle."""
BACK_S = (0.02, 0.3)
"""How long one that could not connect, or was put out, keeps away."""


class Crowd:
    """`many` clients, each of which connects as one User after another. `url` is asked each time: a node may have moved."""

    def __init__(self, url: Callable[[], str], tokens: Sequence[str], seed: int, many: int) -> None:
        self._url: Final = url
        self._tokens: Final = tokens
        self._many: Final = many
        self._seed: Final = seed
        self._settling = asyncio.Event()
        self._held: dict[int, str] = {}
        self.welcomed = 0
        """How often one of them was."""

    def settle(self) -> None:
        """Whoever is connected stays, whoever is not connects once more."""
        self._settling.set()

    def held(self) -> list[str] | None:
        """The ids of their Sessions; None until all of them have one."""
        return sorted(self._held.values()) if len(self._held) == self._many else None

    @asynccontextmanager
    async def out(self) -> AsyncIterator[Crowd]:
        """They come and go in here."""
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(self._live(number)) for number in range(self._many)]
            try:
                yield self
            finally:
                for client in clients:
                    client.cancel()

    async def _live(self, number: int) -> None:
        chance = random.Random(self._seed + number)
        while True:
            try:
                socket = await connect(self._url(), chance.choice(self._tokens), platform=chance.choice(["iOS", "Web"]))
            except Refused as refused:
                # A Token may have been barred a moment ago by a kick; all else heals by itself.
                assert refused.status in (403, 429, 503), refused
            except (OSError, EOFError, TimeoutError):
                pass  # what it was connecting to was killed
            else:
                if socket.welcome["type"] == "welcome":  # or it was put out at once
                    self.welcomed += 1
                    await self._stay(number, socket, chance)
                socket.drop()
            await asyncio.sleep(chance.uniform(*BACK_S))

    async def _stay(self, number: int, socket: Socket, chance: random.Random) -> None:
        """Until it is put out, or has had enough."""
        self._held[number] = socket.session
        closed = asyncio.create_task(socket.idle())
        enough = asyncio.create_task(self._enough(chance.uniform(*HELD_S)))
        try:
            await asyncio.wait([closed, enough], return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._held[number]
            closed.cancel()
            enough.cancel()
            await asyncio.gather(closed, enough, return_exceptions=True)

    async def _enough(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if self._settling.is_set():
            await asyncio.Event().wait()
