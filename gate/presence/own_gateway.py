"""This process as a Gateway: it holds its clients' connections itself, under leases that it takes and keeps of its own accord.

A `Tenancy` for each App whose Users are connected here: begun by the first that connects, ended when none has been there for as
long as a lease lasts. Its name is the node's, so a process that starts again takes a higher epoch, which ends what the one
before it had open. The leases are renewed by the loop that serves the clients and, where it is held up, by `lease_keeper`.

Called by `gate.http.client`. Whether clients speak WebSocket is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from gate.core.presence import MAX_GATEWAY_BYTES, OWN_GATEWAY_PREFIX, CloseReason, Verified
from gate.errors import SessionRefused, StoreUnavailable
from gate.presence.door import Door
from gate.presence.lease_keeper import HeldLease, LeaseKeeper
from gate.presence.seats import Admissions, End, Seat
from gate.presence.tails import Tails
from gate.presence.tenancy import Tenancy

_log = structlog.get_logger()


class OwnGateway:
    """One a process. `failed` is done once something went wrong that a restart alone mends."""

    def __init__(
        self,
        place: str,
        door: Door,
        feeds: Tails,
        admissions: Admissions,
        agreed: Callable[[], Awaitable[None]],
        processes: int = 1,
    ) -> None:
        """`place` is the node's id or, with several HTTP processes, `ID/INDEX`.

        `agreed` raises `StoreUnavailable` for as long as no Session may be opened there. `processes`: of the node, all of which
        drain together.
        """
        self.name = (OWN_GATEWAY_PREFIX + place.encode())[:MAX_GATEWAY_BYTES]
        self.is_draining = False
        self.put_out = 1
        """How many clients are put out together, who should not come back together."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._processes = processes
        self._door = door
        self._feeds = feeds
        self._admissions = admissions
        self._agreed = agreed
        self._tenancies: dict[str, asyncio.Task[Tenancy]] = {}
        self._tasks: dict[Tenancy, set[asyncio.Task[None]]] = {}
        self._keeper = LeaseKeeper(
            door.store.client.another, self.name, door.lease_ttl_ms, self._held, lambda app: door.doubt(app, self.name)
        )

    def __len__(self) -> int:
        return sum(len(one.seats) for one in self._tasks)

    async def open(self, by: Verified, platform: str, ip: str, end: End) -> Seat:
        """A Session for a client. Raises `SessionRefused`, `TokenRefused` and `Unavailable`."""
        self._refuse_draining()
        tenancy = await self._tenancy(
            by.app.key
        )  # once it is there, nothing is waited for, so it can't end before it counts
        seat = await tenancy.open(by, platform, ip, end)
        if self.is_draining:  # since this one began to wait, when it was in no table
            seat.end("shutting-down")
        return seat

    def close(self, app_key: str, seat: Seat, why: CloseReason) -> None:
        """The client is gone."""
        begun = self._tenancies.get(app_key)
        if begun is not None and begun.done() and begun.exception() is None:
            begun.result().close(seat, why)

    def drain(self) -> int:
        """Put everybody out, and let nobody in; how many there were."""
        self.is_draining = True
        seats = [seat for tenancy in self._tasks for seat in tenancy.seats.values()]
        self.put_out = len(seats) * self._processes  # the kernel spreads connections evenly over them
        for seat in seats:
            seat.end("shutting-down")
        return len(seats)

    async def aclose(self) -> None:
        """End all leases. Call it when the connections are closed."""
        self.is_draining = True
        await self._keeper.aclose()
        for tenancy in list(self._tasks):
            self._cancel(tenancy)
            await self._end_lease(tenancy)
        await self._door.aclose()

    def _held(self) -> list[HeldLease]:
        """Called by the keeper's thread: a copy, made in one step."""
        return [HeldLease(one.app_key, one.epoch, one.renewed_at_ms) for one in list(self._tasks)]

    def _refuse_draining(self) -> None:
        if self.is_draining:
            raise SessionRefused("draining", "this node is shutting down: connect through another one")

    async def _tenancy(self, app_key: str) -> Tenancy:
        """The App's, begun by whoever asks first; the others wait for the same."""
        begun = self._tenancies.get(app_key)
        if begun is None:
            begun = self._tenancies[app_key] = asyncio.create_task(self._begun(app_key), name=f"lease for {app_key}")
            begun.add_done_callback(asyncio.Task.exception)
        return await asyncio.shield(begun)

    async def _begun(self, app_key: str) -> Tenancy:
        tenancy = Tenancy(app_key, self.name, self._door, self._feeds, self._admissions)
        try:
            await self._agreed()
            cursor = await tenancy.begin()
        except BaseException:
            del self._tenancies[app_key]
            raise
        self._tasks[tenancy] = {
            self._watched(tenancy.follow(cursor), f"kicks of {app_key}"),
            self._watched(self._keep(tenancy), f"the lease of {app_key}"),
        }
        self._keeper.start()
        return tenancy

    async def _keep(self, tenancy: Tenancy) -> None:
        await tenancy.keep(self._door.lease_ttl_ms)
        del self._tenancies[tenancy.app_key]
        self._cancel(tenancy, but=asyncio.current_task())
        await self._end_lease(tenancy)

    async def _end_lease(self, tenancy: Tenancy) -> None:
        try:
            await tenancy.end()
        except StoreUnavailable as away:
            _log.debug("a lease is left to end by itself", app=tenancy.app_key, problem=str(away))

    def _cancel(self, tenancy: Tenancy, but: asyncio.Task[Any] | None = None) -> None:
        for task in self._tasks.pop(tenancy):
            if task is not but:
                task.cancel()

    def _watched(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) and not self.failed.done():
            self.failed.set_exception(fault)
