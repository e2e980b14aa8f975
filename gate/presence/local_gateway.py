"""This process as a Gateway: it holds its clients' connections itself, under leases that it takes and keeps of its own accord.

An `AppLease` for each App whose Users are connected here: taken for the first that connects, ended when none has been there for
as long as a lease lasts. Its name is the node's, so a process that starts again takes a higher epoch, which ends what the one
before it had open. The leases are renewed by the loop that serves the clients and, where it is held up, by `lease_keeper`.

    Redis is away          it is asked again; clients stay connected, and none is announced offline
    Redis lost the lease   it is taken again under the same epoch; the session service brings back what was open
    the lease was ended    as after a pause longer than it lasts: a higher epoch is taken, which adopts every Session with the
                           id that it had, since the clients are still there
    a Session was kicked   its client is disconnected (`kick_follower`)

A User that this node's facts do not let stay is disconnected with that reason; its Session is not brought back.

Called by `gate.http.client`. Whether clients speak WebSocket is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any

import structlog
from msgspec.structs import astuple

from gate.clock import monotonic_ms, wall_ms
from gate.core import token
from gate.core.model import AppFacts
from gate.core.presence import LOCAL_GATEWAY_PREFIX, MAX_GATEWAY_BYTES, CloseReason, Cursor, Verified
from gate.core.sessions import OpenOutcome, OpenSession
from gate.errors import SessionRefused, StoreUnavailable, Unavailable
from gate.presence.gateway import Gateway
from gate.presence.kick_follower import AT_ONCE, RETRY_S, follow_kicks
from gate.presence.lease_keeper import HeldLease, LeaseKeeper
from gate.presence.session_service import SessionService
from gate.presence.shared_feeds import SharedFeeds

BEATS_A_LEASE = 3
# Of one connect, where the lease turns out to be lost or over.
TRIES = 3
_log = structlog.get_logger()

# Disconnects a client, for a reason. Returns at once and is called at most once.
Disconnect = Callable[[CloseReason], None]


class LocalSession(OpenSession, gc=True, eq=False, kw_only=True):
    """An `OpenSession`, and what its `AppLease` needs to know of the client.

    It is in the lease's table from before the Session is asked for: a kick may overtake the answer.
    """

    disconnect: Disconnect
    expires_at_ms: int
    """Of the Token; 0 for never."""
    generation: bytes
    """Of the key that signed the Token."""
    is_open: bool = False
    """Whether Redis answered that it is."""
    is_active: bool = False
    """Since activity was last reported to Redis."""
    was_ended: bool = False

    def end(self, why: CloseReason) -> None:
        """Disconnect the client; the first reason counts."""
        if not self.was_ended:
            self.was_ended = True
            self.disconnect(why)


class AppLease:
    """`begin` it once; `end` it when no client is left."""

    gateway: Gateway
    """The lease under its present epoch, once `begin` took it."""

    def __init__(self, app_key: str, name: bytes, service: SessionService, feeds: SharedFeeds) -> None:
        self.app_key = app_key
        self.sessions: dict[str, LocalSession] = {}
        """By Session id."""
        self.renewed_at_ms = 0
        """When the lease was last taken or renewed, on the monotonic clock; `LeaseKeeper` reads it from its thread."""
        self._opening = 0
        """Connects under way."""
        self._idle_since_ms = monotonic_ms()
        self.name = name
        self.service = service
        self.admission = service.admission
        self.feeds = feeds
        self._turn = asyncio.Lock()
        """One at a time asks for the lease and brings Sessions back."""

    @property
    def epoch(self) -> int:
        """Of the lease."""
        return self.gateway.epoch

    async def begin(self) -> Cursor:
        """Take the lease; where to follow the feed from, so that no kick is missed. Raises `StoreUnavailable`."""
        # Before the lease: a kick of its first Session is behind this place.
        cursor = await self.feeds.head(self.app_key)
        self._take(await self.service.lease(self.app_key, self.name, None))
        return cursor

    async def open(self, by: Verified, platform: str, ip: str, disconnect: Disconnect) -> LocalSession:
        """A Session for a client. Raises `SessionRefused`, `TokenRefused` and `Unavailable`."""
        self._opening += 1
        try:
            for _ in range(TRIES):
                gateway = self.gateway
                session = LocalSession(
                    *astuple(gateway.new_session(by, platform, ip)), disconnect=disconnect,
                    expires_at_ms=by.expires_at_ms, generation=by.generation,
                )  # fmt: skip
                # In the table before it is asked for: a kick may overtake the answer.
                self.sessions[session.id] = session
                try:
                    outcome = await gateway.open_verified(session, by)
                    session.is_open = outcome is OpenOutcome.OK and self.gateway is gateway
                finally:
                    if not session.is_open:
                        self.sessions.pop(session.id, None)
                if session.is_open:
                    return session
                if outcome is OpenOutcome.FULL:
                    raise SessionRefused("full", "this User has as many Sessions as there may be; close some first")
                if outcome is not OpenOutcome.OK:
                    await self.renew(gateway)
        finally:
            self._opening -= 1
        raise Unavailable("this node's lease keeps being lost; connect again")

    def close(self, session: LocalSession, why: CloseReason) -> None:
        """The client disconnected. If Redis is unreachable, the close is retried."""
        if self.sessions.pop(session.id, None) is not None:
            self._idle_since_ms = monotonic_ms()
            self.gateway.abandon(session.id, why)

    def disconnect(self, session: LocalSession, why: CloseReason) -> None:
        """Close a Session, also one that others closed, and disconnect its client."""
        # First the close: the client's own end finds nothing left to close, and its reason does not count.
        self.close(session, why)
        session.end(why)

    async def keep(self, lease_ttl_ms: int) -> None:
        """Renew the lease and report who was active, until no client has been here for as long as a lease lasts."""
        wait_s = beat_s = lease_ttl_ms / BEATS_A_LEASE / 1_000
        while True:
            await asyncio.sleep(wait_s)
            if self._is_idle(lease_ttl_ms):
                return
            try:
                await self.renew(self.gateway)
                await self._report_active()
                wait_s = beat_s
            except Unavailable:
                wait_s = min(beat_s, RETRY_S)
            self._disconnect_expired()

    async def end(self) -> None:
        """End the lease, and the Sessions with it."""
        await self.service.store.end_lease(self.app_key, self.name, self.epoch)
        self.service.let_go(self.gateway)

    # Keeping

    async def renew(self, seen: Gateway) -> None:
        """Hold the lease again, under a higher epoch if need be, with every Session that is open. Raises `StoreUnavailable`."""
        async with self._turn:
            if self.gateway is not seen:
                return  # another caller has renewed it meanwhile
            if self.admission.app_facts(self.app_key) is None:
                self._disconnect_all("app-removed")
                return
            gateway = await self.service.lease(self.app_key, self.name, self.epoch)
            if not gateway.holds:
                gateway = await self.service.lease(self.app_key, self.name, None)
                gateway.adopt(one for one in self.sessions.values() if one.is_open)
                # Before what it adopted is opened again: from here on, a connect of the old epoch starts over.
                self._take(gateway)
                await self.service.lease(self.app_key, self.name, gateway.epoch)
            self._take(gateway)

    def _take(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.renewed_at_ms = monotonic_ms()
        gateway.on_lost = self._on_lost

    def _on_lost(self, session_id: str, why: CloseReason) -> None:
        if session := self.sessions.get(session_id):
            self.disconnect(session, why)

    async def _report_active(self) -> None:
        active = [one for one in self.sessions.values() if one.is_active and one.is_open]
        for at in range(0, len(active), AT_ONCE):
            some = active[at : at + AT_ONCE]
            for one in some:
                # Before the exchange: activity during it counts for the next report.
                one.is_active = False
            await self.service.touch(self.app_key, [one.id for one in some]).wait()

    def _disconnect_expired(self) -> None:
        """Every client is looked at: far cheaper than a timer each."""
        app, now_ms = self.admission.app_facts(self.app_key), wall_ms()
        if app is None:
            return
        valid_generations = token.generations(app)
        for session in list(self.sessions.values()):
            if why := _why_over(session, app, valid_generations, now_ms):
                self.disconnect(session, why)

    def _is_idle(self, lease_ttl_ms: int) -> bool:
        return not self.sessions and not self._opening and monotonic_ms() - self._idle_since_ms >= lease_ttl_ms

    def _disconnect_all(self, why: CloseReason) -> None:
        for session in list(self.sessions.values()):
            self.disconnect(session, why)


def _why_over(
    session: LocalSession, app: AppFacts, valid_generations: Collection[bytes], now_ms: int
) -> CloseReason | None:
    """Of another App that had the key before; or of a Token that would be refused now, where the App says that this counts."""
    if session.app is not app and not token.is_same_app(session.app, app):
        return "app-removed"
    if app.close_sessions_on_expire and session.generation not in valid_generations:
        return "token-revoked"
    if app.close_sessions_on_expire and 0 < session.expires_at_ms <= now_ms:
        return "token-expired"
    return None


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
        # In a variable, since it may be another by the end: mypy would take the second look for dead code.
        was_draining = self.is_draining
        if was_draining:
            raise SessionRefused("draining", "this node is shutting down: connect through another one")
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
            self._watched(follow_kicks(lease, cursor), f"kicks of {app_key}"),
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
