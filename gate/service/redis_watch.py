"""Looks at a Redis while the service runs, and logs what changed about it, once for each change.

    away      calls fail: what the server answers now, as WRONGPASS after its password was changed, or why it can't be reached
    another   the address leads to another server, or to another run of it
    eviction  it may drop facts for room now (`gate.store.eviction`)
    rights    the user lacks a right that it had (`gate.store.rights`)

What is wrong also shows under `warnings` in `/readyz`. The background role has one of these for each Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from gate.errors import StoreUnavailable
from gate.metrics import REDIS_EVICTED_KEYS, REDIS_MEMORY_MAX, REDIS_MEMORY_USED
from gate.store.client import Client
from gate.store.eviction import ServerMemory, read_memory, shown_eviction
from gate.store.rights import Needs, missing_rights, shown_missing

LOOK_EVERY_S = 1.0
# Looks from one trial of all rights to the next: it takes a connection, and the server some 50 microseconds.
FULL_LOOK_EVERY = 3

_log = structlog.get_logger()


class RedisWatch:
    """Call `look` about once a second, or `run` it. `note` receives what is wrong, for people; "" where nothing is.

    `of` is the label of its metrics: facts or presence.
    """

    def __init__(self, name: str, of: str, client: Client, needs: Needs, note: Callable[[str], object]) -> None:
        self._name = name
        self._of = of
        self._client = client
        self._needs = needs
        self._note = note
        self._looks = 0
        self._away = ""
        self._wrong: dict[str, str] = {}
        self._server_id = ""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Look once."""
        self._looks += 1
        try:
            memory = await read_memory(self._client)
            self._export(memory)
            # Looked at each time, since `CONFIG SET` takes effect at once.
            evicts = shown_eviction(self._client, memory.policy) if memory.policy else ""
            self._see("eviction", evicts, "evicts nothing again")
            self._see_server()
            # The first look is a full one.
            if self._looks % FULL_LOOK_EVERY == 1:
                await self._look_closely()
        except StoreUnavailable as away:
            self._see_away(str(away))
        else:
            self._see_away("")
        # One note for all, since a topic has one text.
        self._note("; ".join(filter(None, [self._away, *self._wrong.values()])))

    async def _look_closely(self) -> None:
        missing = await missing_rights(self._client, self._needs)
        self._see("rights", shown_missing(self._client, missing) if missing else "", "has every right again")

    def _export(self, memory: ServerMemory) -> None:
        REDIS_MEMORY_USED.labels(self._of).set(memory.used_bytes)
        REDIS_MEMORY_MAX.labels(self._of).set(memory.max_bytes)
        REDIS_EVICTED_KEYS.labels(self._of).set(memory.evicted_keys)

    def _see_away(self, problem: str) -> None:
        if problem != self._away:
            if problem:
                _log.warning(f"{self._name} can't be used", problem=problem)
            else:
                _log.info(f"{self._name} can be used again")
        self._away = problem

    def _see_server(self) -> None:
        found = self._client.server_id
        if found and self._server_id and found != self._server_id:
            shown = self._client.address.shown
            _log.warning(f"{self._name} is another server now, or another run of it", address=shown)
        # Kept while there is no connection: what comes back is compared with what was there before.
        self._server_id = found or self._server_id

    def _see(self, what: str, problem: str, well: str) -> None:
        before = self._wrong.get(what, "")
        if problem != before:
            if problem:
                _log.error(f"{self._name} needs attention", problem=problem)
            else:
                _log.info(f"{self._name} {well}")
        self._wrong[what] = problem
