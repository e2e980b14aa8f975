"""This process as a Gateway: it holds its clients' connections itself, under leases that it takes and keeps of its own accord.

An `AppLease` for each App whose Users are connected here: taken for the first that connects, ended when none has been there for
as long as a lease lasts. Its name is the node's, so a process that starts again takes a higher epoch, which ends what the one
before it had open. The leases are renewed by the loop that serves the clients and, where it is held up, by `lease_keeper`.

Called by `gate.http.client`. Whether clients speak WebSocket is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any

import structlog

from gate.core.presence import LOCAL_GATEWAY_PREFIX, MAX_GATEWAY_BYTES, CloseReason, Verified
from gate.errors import SessionRefused, StoreUnavailable
from gate.presence.app_lease import AppLease, Disconnect, LocalSession
from gate.presence.lease_keeper import HeldLease, LeaseKeeper
from gate.presence.session_service import SessionService
from gate.presence.shared_feeds import SharedFeeds

_log = structlog.get_logger()


class LocalGateway:
    """One a process. `failed` is done once something went wrong that a restart alone mends."""

    def __init__(
        self,
        place: str,
        service: SessionService,
        feeds: SharedFeeds,
        agreed: Callable[[], Awaitable[None]],
        processes: int = 1,
    ) -> None:
        """`place` is the node's id or, with several HTTP processes, `ID/INDEX`.

        `agreed` raises `StoreUnavailable` for as long as no Session may be opened there. `processes`: of the node, all of which
        drain together.
        """
        self.name = (LOCAL_GATEWAY_PREFIX + place.encode())[:MAX_GATEWAY_BYTES]
        self.is_draining = False
        self.disconnected_together = 1
        """Number of clients disconnected at once; used to spread their reconnects."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._processes = processes
        self._service = service
        self._feeds = feeds
        self._agreed = agreed
        self._leases: dict[str, asyncio.Task[AppLease]] = {}
        self._tasks: dict[AppLease, set[asyncio.Task[None]]] = {}
        self._keeper = LeaseKeeper(
            service.store.client.another,
            self.name,
            service.lease_ttl_ms,
            self._held,
            lambda app: service.mark_uncertain((app, self.name)),
        )

    def __len__(self) -> int:
        return sum(len(one.sessions) for one in self._tasks)

    async def open(self, by: Verified, platform: str, ip: str, disconnect: Disconnect) -> LocalSession:
        """A Session for a client. Raises `SessionRefused`, `TokenRefused` and `Unavailable`."""
        self._refuse_draining()
        begun = self._leases.get(by.app.key)
        if begun is None:
            begun = self._begin_lease(by.app.key)
        # Nothing is waited for between the lease and the count of its connects, so it can't end in between.
        lease = begun.result() if begun.done() else await asyncio.shield(begun)
        session = await lease.open(by, platform, ip, disconnect)
        if self.is_draining:  # since this one began to wait, when it was in no table
            session.end("shutting-down")
        return session

    def close(self, app_key: str, session: LocalSession, why: CloseReason) -> None:
        """The client disconnected."""
        begun = self._leases.get(app_key)
        if begun is not None and begun.done() and begun.exception() is None:
            begun.result().close(session, why)

    @property
    def leased_apps(self) -> Collection[str]:
        """The Apps that have a lease, or whose first lease is being taken."""
        return self._leases.keys()

    def drain(self) -> int:
        """Disconnect all clients and accept no more; how many there were."""
        self.is_draining = True
        sessions = [session for lease in self._tasks for session in lease.sessions.values()]
        self.disconnected_together = len(sessions) * self._processes  # the kernel spreads connections evenly over them
        for session in sessions:
            session.end("shutting-down")
        return len(sessions)

    async def aclose(self) -> None:
        """End all leases. Call it when the connections are closed."""
        self.is_draining = True
        await self._keeper.aclose()
        for lease in list(self._tasks):
            self._cancel(lease)
            await self._end_lease(lease)
        await self._service.aclose()

    def _held(self) -> list[HeldLease]:
        """Called by the keeper's thread: a copy, made in one step."""
        return [HeldLease(one.app_key, one.epoch, one.renewed_at_ms) for one in list(self._tasks)]

    def _refuse_draining(self) -> None:
        if self.is_draining:
            raise SessionRefused("draining", "this node is shutting down: connect through another one")

    def _begin_lease(self, app_key: str) -> asyncio.Task[AppLease]:
        """By the first client of an App; the others wait for the same."""
        begun = self._leases[app_key] = asyncio.create_task(self._begun(app_key), name=f"lease for {app_key}")
        # Every client that waits for it gets the failure; with none left, asyncio would log it.
        begun.add_done_callback(asyncio.Task.exception)
        return begun

    async def _begun(self, app_key: str) -> AppLease:
        lease = AppLease(app_key, self.name, self._service, self._feeds)
        try:
            await self._agreed()
            cursor = await lease.begin()
        except BaseException:
            del self._leases[app_key]
            raise
        self._tasks[lease] = {
            self._watched(lease.follow(cursor), f"kicks of {app_key}"),
            self._watched(self._keep(lease), f"the lease of {app_key}"),
        }
        self._keeper.start()
        return lease

    async def _keep(self, lease: AppLease) -> None:
        await lease.keep(self._service.lease_ttl_ms)
        # First of all: a client that comes now takes a new lease, with a higher epoch.
        del self._leases[lease.app_key]
        self._cancel(lease, but=asyncio.current_task())
        await self._end_lease(lease)

    async def _end_lease(self, lease: AppLease) -> None:
        try:
            await lease.end()
        except StoreUnavailable as away:
            _log.debug("a lease is left to end by itself", app=lease.app_key, problem=str(away))

    def _cancel(self, lease: AppLease, but: asyncio.Task[Any] | None = None) -> None:
        for task in self._tasks.pop(lease):
            if task is not but:
                task.cancel()

    def _watched(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) and not self.failed.done():
            self.failed.set_exception(fault)
