"""Renews this process's own leases where its loop does not come to it: a thread with a loop and a connection of its own.

Strangers can keep the HTTP process busy, and its clients are connected all the same; they must not appear offline. A lease that
the process itself renewed within half of its time is left alone, so that usually nothing is done here. A loop that has not
turned for `MOST_HELD_MS` is taken for dead, and its leases end: it would not notice if a client went.

A lease that Redis lost meanwhile is taken again, and `on_lost` is called in the process's loop, which brings the Sessions back.
Called by `local_gateway`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog

from gate.clock import monotonic_ms
from gate.errors import GateError
from gate.store.client import Client
from gate.store.presence import PresenceStore

LOOKS_A_LEASE = 6
# Of a lease's time: the loop itself renews after a third of it.
SHARE_LEFT_ALONE = 0.5
MOST_HELD_MS = 60_000
TURN_EVERY_S = 0.5

_log = structlog.get_logger()


class HeldLease(NamedTuple):
    """One lease, and when it was last renewed, on the monotonic clock."""

    app_key: str
    epoch: int
    renewed_at_ms: int


class LeaseKeeper:
    """`start` it in the loop whose leases it keeps; `aclose` it before they are ended."""

    def __init__(
        self,
        open_client: Callable[[], Client],
        gateway: bytes,
        lease_ttl_ms: int,
        held: Callable[[], Iterable[HeldLease]],
        on_lost: Callable[[str], None],
    ) -> None:
        self._open_client = open_client
        self._gateway = gateway
        self._lease_ttl_ms = lease_ttl_ms
        self._held = held
        self._on_lost = on_lost
        self._renewed_at_ms: dict[tuple[str, int], int] = {}
        """By this thread."""
        self._turned_at_ms = monotonic_ms()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._turning: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Once is enough."""
        if self._thread is None and not self._stopping.is_set():
            self._turning = asyncio.create_task(self._turn(), name="turns for the lease keeper")
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, args=[loop], name="lease keeper", daemon=True)
            self._thread.start()

    async def aclose(self) -> None:
        """Renew nothing more."""
        self._stopping.set()
        if self._turning is not None:
            self._turning.cancel()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def _turn(self) -> None:
        while True:
            self._turned_at_ms = monotonic_ms()
            await asyncio.sleep(TURN_EVERY_S)

    # In the thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.run(self._keep(loop))

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> None:
        # In this thread: its connection belongs to this loop.
        client = self._open_client()
        store = PresenceStore(client)
        every_s = self._lease_ttl_ms / LOOKS_A_LEASE / 1_000
        try:
            while not await asyncio.to_thread(self._stopping.wait, every_s):
                for one in self._due():
                    await self._renew(store, one, loop)
        finally:
            await client.aclose()

    def _due(self) -> list[HeldLease]:
        now_ms = monotonic_ms()
        if now_ms - self._turned_at_ms > MOST_HELD_MS:
            return []
        held = list(self._held())
        since = {(one.app_key, one.epoch): self._renewed_at_ms.get((one.app_key, one.epoch), 0) for one in held}
        self._renewed_at_ms = since  # what ended is forgotten
        # The loop renews after a third: past half, it is late.
        oldest_ms = now_ms - int(self._lease_ttl_ms * SHARE_LEFT_ALONE)
        return [one for one in held if max(one.renewed_at_ms, since[one.app_key, one.epoch]) < oldest_ms]

    async def _renew(self, store: PresenceStore, one: HeldLease, loop: asyncio.AbstractEventLoop) -> None:
        try:
            leased = await store.lease(one.app_key, self._gateway, one.epoch)
        except GateError as away:
            _log.debug("a lease could not be renewed while the loop is held", app=one.app_key, problem=str(away))
            return
        self._renewed_at_ms[one.app_key, one.epoch] = monotonic_ms()
        if leased.is_new:
            loop.call_soon_threadsafe(self._on_lost, one.app_key)
