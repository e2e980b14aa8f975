"""WebSocket clients in the test's process: they connect, leave, drop, and reconnect after every fault.

For `test_presence_chaos`, which kills the servers that they use.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from harness.websocket import Refused, Socket, connect

HELD_S = (0.05, 1.0)
"""How long a client stays connected before `settle`."""
BACK_S = (0.02, 0.3)
"""Pause of a client that could not connect, or was disconnected."""


class Crowd:
    """`many` clients, each of which connects as one User after another. `url` is called each time: a node may have moved."""

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
        """Connected clients stay; the others connect once more."""
        self._settling.set()

    def held(self) -> list[str] | None:
        """The ids of their Sessions; None until all of them have one."""
        return sorted(self._held.values()) if len(self._held) == self._many else None

    @asynccontextmanager
    async def out(self) -> AsyncIterator[Crowd]:
        """Connect and leave within this block."""
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
                # A kick may have fenced a Token just now; all other faults are repaired.
                assert refused.status in (403, 429, 503), refused
            except (OSError, EOFError, TimeoutError):
                pass  # the server was killed during the connect
            else:
                if socket.welcome["type"] == "welcome":  # or it was disconnected at once
                    self.welcomed += 1
                    await self._stay(number, socket, chance)
                socket.drop()
            await asyncio.sleep(chance.uniform(*BACK_S))

    async def _stay(self, number: int, socket: Socket, chance: random.Random) -> None:
        """Stay until the server disconnects, or until the end of the stay."""
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
