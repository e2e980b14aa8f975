"""One App's clients on this node's own Gateway: what a process that holds its clients itself adds to a `Gateway`.

It renews the lease of its own accord, follows the kicks that name its Sessions, and disconnects clients.

    Redis is away          it is asked again; clients stay connected, and none is announced offline
    Redis lost the lease   it is taken again under the same epoch; the session service brings back what was open
    the lease was ended    as after a pause longer than it lasts: a higher epoch is taken, which adopts every Session with the
                           id that it had, since the clients are still there
    the feed was reset     kicks may have been missed: a client without a Session is disconnected

A User that this node's facts do not let stay is disconnected with that reason; its Session is not brought back. After a kick,
the Session is closed once more: that costs a script, and makes sure that none is left that was being brought back.

Called by `local_gateway`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing

from msgspec.structs import astuple

from gate.clock import monotonic_ms, wall_ms
from gate.core import token
from gate.core.closing import REASON_OF_FAULT
from gate.core.model import AppFacts
from gate.core.presence import CloseReason, Cursor, Event, Verified
from gate.core.sessions import OpenOutcome, OpenSession
from gate.errors import FeedReset, SessionRefused, TokenRefused, Unavailable
from gate.presence.gateway import Gateway
from gate.presence.session_service import SessionService
from gate.presence.shared_feeds import SharedFeeds

BEATS_A_LEASE = 3
# Of one connect, where the lease turns out to be lost or over.
TRIES = 3
RETRY_S = 0.25
# Sessions that are brought back, looked up or touched in one step: some ms in which nothing else has a turn.
AT_ONCE = 200


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
        self.opening = 0
        """Connects under way."""
        self.idle_since_ms = monotonic_ms()
        self._name = name
        self._service = service
        self._feeds = feeds
        self._admission = service.admission
        self._turn = asyncio.Lock()
        """One at a time asks for the lease and brings Sessions back."""

    @property
    def epoch(self) -> int:
        """Of the lease."""
        return self.gateway.epoch

    async def begin(self) -> Cursor:
        """Take the lease; where to follow the feed from, so that no kick is missed. Raises `StoreUnavailable`."""
        # Before the lease: a kick of its first Session is behind this place.
        cursor = await self._feeds.head(self.app_key)
        self._take(await self._service.lease(self.app_key, self._name, None))
        return cursor

    async def open(self, by: Verified, platform: str, ip: str, disconnect: Disconnect) -> LocalSession:
        """A Session for a client. Raises `SessionRefused`, `TokenRefused` and `Unavailable`."""
        self.opening += 1
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
                    await self._renew(gateway)
        finally:
            self.opening -= 1
        raise Unavailable("this node's lease keeps being lost; connect again")

    def close(self, session: LocalSession, why: CloseReason) -> None:
        """The client disconnected. If Redis is unreachable, the close is retried."""
        if self.sessions.pop(session.id, None) is not None:
            self.idle_since_ms = monotonic_ms()
            self.gateway.abandon(session.id, why)

    async def keep(self, lease_ttl_ms: int) -> None:
        """Renew the lease and report who was active, until no client has been here for as long as a lease lasts."""
        wait_s = beat_s = lease_ttl_ms / BEATS_A_LEASE / 1_000
        while True:
            await asyncio.sleep(wait_s)
            if self._is_idle(lease_ttl_ms):
                return
            try:
                await self._renew(self.gateway)
                await self._report_active()
                wait_s = beat_s
            except Unavailable:
                wait_s = min(beat_s, RETRY_S)
            self._disconnect_expired()

    async def follow(self, after: Cursor) -> None:
        """Disconnect whom the feed's kicks name, for ever."""
        while True:
            try:
                async with aclosing(self._feeds.follow(self.app_key, after)) as parts:
                    async for events in parts:
                        for one in events:
                            self._on_event(one)
                        after = events[-1].cursor
                return  # this process ends
            except FeedReset:
                after = await self._found_again()

    async def end(self) -> None:
        """End the lease, and the Sessions with it."""
        await self._service.store.end_lease(self.app_key, self._name, self.epoch)
        self._service.let_go(self.gateway)

    # Keeping

    async def _renew(self, seen: Gateway) -> None:
        """Hold the lease again, under a higher epoch if need be, with every Session that is open. Raises `StoreUnavailable`."""
        async with self._turn:
            if self.gateway is not seen:
                return  # another caller has renewed it meanwhile
            if self._admission.app_facts(self.app_key) is None:
                self._disconnect_all("app-removed")
                return
            gateway = await self._service.lease(self.app_key, self._name, self.epoch)
            if not gateway.holds:
                gateway = await self._service.lease(self.app_key, self._name, None)
                gateway.adopt(one for one in self.sessions.values() if one.is_open)
                # Before what it adopted is opened again: from here on, a connect of the old epoch starts over.
                self._take(gateway)
                await self._service.lease(self.app_key, self._name, gateway.epoch)
            self._take(gateway)

    def _take(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.renewed_at_ms = monotonic_ms()
        gateway.on_lost = self._on_lost

    def _on_lost(self, session_id: str, why: CloseReason) -> None:
        if session := self.sessions.get(session_id):
            self._disconnect(session, why)

    async def _report_active(self) -> None:
        active = [one for one in self.sessions.values() if one.is_active and one.is_open]
        for at in range(0, len(active), AT_ONCE):
            some = active[at : at + AT_ONCE]
            for one in some:
                # Before the exchange: activity during it counts for the next report.
                one.is_active = False
            await self._service.touch(self.app_key, [one.id for one in some]).wait()

    def _disconnect_expired(self) -> None:
        """Every client is looked at: far cheaper than a timer each."""
        app, now_ms = self._admission.app_facts(self.app_key), wall_ms()
        if app is None:
            return
        valid_generations = token.generations(app)
        for session in list(self.sessions.values()):
            if why := _why_over(session, app, valid_generations, now_ms):
                self._disconnect(session, why)

    def _is_idle(self, lease_ttl_ms: int) -> bool:
        return not self.sessions and not self.opening and monotonic_ms() - self.idle_since_ms >= lease_ttl_ms

    # Disconnecting

    def _on_event(self, event: Event) -> None:
        if event.kind == "kick" and event.gateway == self._name and (session := self.sessions.get(event.session)):
            self._disconnect(session, _reason(event.why))

    def _disconnect(self, session: LocalSession, why: CloseReason) -> None:
        if self.sessions.pop(session.id, None) is not None:
            self.idle_since_ms = monotonic_ms()
            self.gateway.abandon(session.id, why)
        session.end(why)

    def _disconnect_all(self, why: CloseReason) -> None:
        for session in list(self.sessions.values()):
            self._disconnect(session, why)

    async def _found_again(self) -> Cursor:
        """After kicks may have been missed: disconnect who has no Session; where to follow on from."""
        while True:
            try:
                # Before the look at Sessions: what is kicked during it is behind this place.
                cursor = await self._feeds.head(self.app_key)
                await self._renew(self.gateway)
                sessions = [one for one in self.sessions.values() if one.is_open]
                for at in range(0, len(sessions), AT_ONCE):
                    await self._disconnect_without_session(sessions[at : at + AT_ONCE])
                return cursor
            except Unavailable:
                await asyncio.sleep(RETRY_S)

    async def _disconnect_without_session(self, sessions: Sequence[LocalSession]) -> None:
        found = await self._service.presences(self.app_key, [one.user for one in sessions]).wait()
        there = {session.id for one in found for session in one.sessions}
        for session in sessions:
            if session.id not in there:
                try:
                    self._admission.authorize_stay(session)
                    why: CloseReason = "lost"
                except TokenRefused as refused:
                    why = REASON_OF_FAULT[refused.fault]
                self._disconnect(session, why)


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


def _reason(why: str) -> CloseReason:
    """The reason that a kick gives; one that this version does not know counts as `kicked`."""
    reasons: dict[str, CloseReason] = {
        one: one for one in ("banned", "deactivated", "token-revoked", "replaced", "app-removed", "lost")
    }
    return reasons.get(why, "kicked")
