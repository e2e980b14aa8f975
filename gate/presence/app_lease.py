"""One App's clients on this node's own Gateway: their lease, their Sessions, and the kicks that are meant for them.

    Redis is away          it is asked again; clients stay connected, and nobody is announced offline
    Redis lost the lease   it is taken again under the same epoch; the session service brings back what was open
    the lease was ended    as after a pause longer than it lasts: a higher epoch is taken, and every Session opened again with
                           the id that it had, since the clients are still there
    the feed was reset     kicks may have been missed: whoever has no Session any more is put out

Whoever may not be connected any more by this node's facts is put out with that reason, not brought back. A kick is also
answered by closing the Session once more, which costs a script and makes sure that none is left that was being brought back.

Called by `local_gateway`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import aclosing, suppress
from typing import Any

from gate.clock import monotonic_ms, wall_ms
from gate.core import token
from gate.core.closing import REASON_OF_FAULT
from gate.core.model import AppFacts
from gate.core.presence import CloseReason, Cursor, Event, Verified, session_parts
from gate.errors import FeedReset, SessionRefused, StoreUnavailable, TokenRefused, Unavailable
from gate.presence.local_sessions import Admissions, End, LocalSession
from gate.presence.registry import OpenSession
from gate.presence.session_service import SessionService
from gate.presence.shared_feeds import SharedFeeds
from gate.store.presence import Opened

BEATS_A_LEASE = 3
TRIES = 3
"""Of one connect, where the lease turns out to be lost or over."""
RETRY_S = 0.25
AT_ONCE = 200
"""Sessions that are brought back, looked up or touched in one step: some ms in which nobody else has a turn."""
VERIFY_AGAIN_EVERY_S = 0.005
VERIFY_AGAIN_FOR_MS = 1_000
"""How long a connect waits for this Replica to apply the Change for which the User's Sessions were closed."""


class AppLease:
    """`begin` it once; `end` it when no client is left."""

    def __init__(
        self, app_key: str, gateway: bytes, service: SessionService, feeds: SharedFeeds, admissions: Admissions
    ) -> None:
        self.app_key = app_key
        self.sessions: dict[str, LocalSession] = {}
        """By Session id."""
        self.epoch = 0
        self.renewed_at_ms = 0
        """When the lease was last taken or renewed, on the monotonic clock; `LeaseKeeper` reads it from its thread."""
        self.opening = 0
        """Connects under way."""
        self.idle_since_ms = monotonic_ms()
        self._gateway = gateway
        self._service = service
        self._feeds = feeds
        self._admissions = admissions
        self._turn = asyncio.Lock()
        """One at a time asks for the lease and brings Sessions back."""

    async def begin(self) -> Cursor:
        """Take the lease; where to follow the feed from, so that no kick is missed. Raises `StoreUnavailable`."""
        cursor = await self._feeds.head(self.app_key)
        leased = await self._service.lease(self.app_key, self._gateway, None, self._may_connect)
        self.epoch, self.renewed_at_ms = leased.epoch, monotonic_ms()
        return cursor

    async def open(self, by: Verified, platform: str, ip: str, end: End) -> LocalSession:
        """A Session for a client. Raises `SessionRefused`, `TokenRefused` and `Unavailable`."""
        session = LocalSession(by, platform, ip, wall_ms(), end)
        self.opening += 1
        try:
            return await self._opened(session, by)
        finally:
            self.opening -= 1

    def close(self, session: LocalSession, why: CloseReason) -> None:
        """The client is gone. Where Redis can't be told, it is as soon as it can."""
        if self.sessions.pop(session.session, None) is not None:
            self.idle_since_ms = monotonic_ms()
            self._close(session.session, why)

    async def keep(self, lease_ttl_ms: int) -> None:
        """Renew the lease, and tell who was active, until nobody has been here for as long as a lease lasts."""
        wait_s = beat_s = lease_ttl_ms / BEATS_A_LEASE / 1_000
        while True:
            await asyncio.sleep(wait_s)
            if self._is_idle(lease_ttl_ms):
                return
            try:
                await self._renew(self.epoch)
                await self._tell_active()
                wait_s = beat_s
            except Unavailable:
                wait_s = min(beat_s, RETRY_S)
            self._end_whose_time_is_over()

    async def follow(self, after: Cursor) -> None:
        """Put out whom the feed's kicks name, for ever."""
        while True:
            try:
                async with aclosing(self._feeds.follow(self.app_key, after)) as parts:
                    async for events in parts:
                        for one in events:
                            self._heed(one)
                        after = events[-1].cursor
                return  # this process ends
            except FeedReset:
                after = await self._found_again()

    async def end(self) -> None:
        """End the lease, and the Sessions with it."""
        await self._service.store.end_lease(self.app_key, self._gateway, self.epoch)
        self._service.let_go(self.app_key, self._gateway, self.epoch)

    # Opening

    async def _opened(self, session: LocalSession, by: Verified) -> LocalSession:
        deadline_ms = monotonic_ms() + VERIFY_AGAIN_FOR_MS
        tries = 0
        while tries < TRIES:
            epoch = self.epoch
            word = await self._asked(session, by, epoch)
            if word == "ok" and self.epoch == epoch:
                session.is_open = True
                return session
            self.sessions.pop(session.session, None)
            if word == "full":
                raise SessionRefused("full", "this User has as many Sessions as there may be; close some first")
            if word == "barred":
                by = await self._verified_anew(by, deadline_ms)
                continue
            tries += 1
            if word != "ok":
                await self._renew(epoch)
        raise Unavailable("this node's lease keeps being lost; connect again")

    async def _asked(self, session: LocalSession, by: Verified, epoch: int) -> Opened:
        attempt = self._service.open(by, self._gateway, epoch, session.platform, session.ip)
        session.session = attempt.session
        self.sessions[attempt.session] = session
        try:
            return await attempt.pending.wait()
        except BaseException as fault:  # the client is gone, or Redis: nobody would close what may have been opened
            self.sessions.pop(attempt.session, None)
            if not isinstance(fault, StoreUnavailable) or fault.outcome == "unknown":
                self._service.abandon(self.app_key, self._gateway, epoch, attempt.session)
            raise

    async def _verified_anew(self, by: Verified, deadline_ms: int) -> Verified:
        """Once this Replica has applied more of the User's Partition than when the Token was verified."""
        while monotonic_ms() < deadline_ms:
            if self._admissions.applied_of(self.app_key, by.user) != (by.log_epoch, by.log_seq):
                anew = self._admissions.admitted_anew(self.app_key, by.user, by.minted_at_ms, wall_ms())
                if not token.is_same_app(anew.app, by.app):
                    raise TokenRefused("app-unknown", "the App was removed")
                return anew
            await asyncio.sleep(VERIFY_AGAIN_EVERY_S)
        raise Unavailable(
            "this Replica has yet to apply the Change for which the User's Sessions were closed; connect again"
        )

    # Keeping

    async def _renew(self, seen_epoch: int) -> None:
        """Hold the lease again, under a higher epoch if need be, with every Session that is open. Raises `StoreUnavailable`."""
        async with self._turn:
            if self.epoch != seen_epoch:
                return  # another one has seen to it meanwhile
            if self._admissions.app_facts(self.app_key) is None:
                self._end_all("app-removed")
                return
            leased = await self._service.lease(self.app_key, self._gateway, self.epoch, self._may_connect)
            if not leased.holds:
                leased = await self._service.lease(self.app_key, self._gateway, None, self._may_connect)
                self.epoch = leased.epoch
            self.renewed_at_ms = monotonic_ms()
            forgotten = [one for one in self.sessions.values() if one.is_open and not self._is_remembered(one)]
            for at in range(0, len(forgotten), AT_ONCE):
                await self._bring_back(forgotten[at : at + AT_ONCE])

    def _is_remembered(self, session: LocalSession) -> bool:
        return self._service.remembers(self.app_key, self._gateway, session.session)

    async def _bring_back(self, sessions: Sequence[LocalSession]) -> None:
        epoch, asked = self.epoch, []
        for session in sessions:
            by = self._admitted_or_ended(session)
            if by is not None:
                stored_id, _ = session_parts(session.session)
                kept = OpenSession(
                    by.app,
                    session.user,
                    stored_id,
                    session.platform,
                    session.ip,
                    session.minted_at_ms,
                    session.since_ms,
                )
                asked.append((session, self._service.open_again(by, self._gateway, epoch, kept)))
        for session, pending in asked:
            word = await pending.wait()
            if word == "ok" and session.session not in self.sessions:
                self._close(session.session, "lost")  # the client went meanwhile
            elif word in ("barred", "full"):
                self._put_out(session, "lost")

    def _admitted_or_ended(self, session: LocalSession) -> Verified | None:
        try:
            by = self._admissions.may_stay(self.app_key, session.user, session.minted_at_ms, wall_ms())
        except TokenRefused as refused:
            self._put_out(session, REASON_OF_FAULT[refused.fault])
            return None
        if not token.is_same_app(by.app, session.app):
            self._put_out(session, "app-removed")
            return None
        return by

    def _may_connect(self, app_key: str, user: bytes, minted_at_ms: int) -> Verified | None:
        try:
            return self._admissions.may_stay(app_key, user, minted_at_ms, wall_ms())
        except TokenRefused:
            return None

    async def _tell_active(self) -> None:
        active = [one for one in self.sessions.values() if one.is_active and one.is_open]
        for at in range(0, len(active), AT_ONCE):
            some = active[at : at + AT_ONCE]
            for one in some:
                one.is_active = False
            await self._service.touch(self.app_key, [one.session for one in some]).wait()

    def _end_whose_time_is_over(self) -> None:
        """Every client is looked at: far cheaper than a timer each."""
        app, now_ms = self._admissions.app_facts(self.app_key), wall_ms()
        if app is None:
            return
        standing = token.generations(app)
        for session in list(self.sessions.values()):
            if why := _why_over(session, app, standing, now_ms):
                self._put_out(session, why)

    def _is_idle(self, lease_ttl_ms: int) -> bool:
        return not self.sessions and not self.opening and monotonic_ms() - self.idle_since_ms >= lease_ttl_ms

    # Putting out

    def _heed(self, event: Event) -> None:
        if event.kind == "kick" and event.gateway == self._gateway and (session := self.sessions.get(event.session)):
            self._put_out(session, _reason(event.why))

    def _put_out(self, session: LocalSession, why: CloseReason) -> None:
        if self.sessions.pop(session.session, None) is not None:
            self.idle_since_ms = monotonic_ms()
            self._close(session.session, why)
        session.end(why)

    def _end_all(self, why: CloseReason) -> None:
        for session in list(self.sessions.values()):
            self._put_out(session, why)

    def _close(self, session: str, why: CloseReason) -> None:
        epoch = self.epoch

        def closed(arrival: asyncio.Future[Any]) -> None:
            if arrival.exception() is None:
                with suppress(StoreUnavailable):  # refused, as by a server that takes no writes
                    pending.result()
                    return
            self._service.abandon(self.app_key, self._gateway, epoch, session)

        try:
            pending = self._service.close(self.app_key, self._gateway, epoch, session, why)
        except Unavailable:
            self._service.abandon(self.app_key, self._gateway, epoch, session)
        else:
            pending.arrival.add_done_callback(closed)

    async def _found_again(self) -> Cursor:
        """After kicks may have been missed: put out who has no Session, and where to follow on from."""
        while True:
            try:
                cursor = await self._feeds.head(self.app_key)
                await self._renew(self.epoch)
                sessions = [one for one in self.sessions.values() if one.is_open]
                for at in range(0, len(sessions), AT_ONCE):
                    await self._end_without_session(sessions[at : at + AT_ONCE])
                return cursor
            except Unavailable:
                await asyncio.sleep(RETRY_S)

    async def _end_without_session(self, sessions: Sequence[LocalSession]) -> None:
        found = await self._service.presences(self.app_key, [one.user for one in sessions]).wait()
        there = {session.id for one in found for session in one.sessions}
        for session in sessions:
            if session.session not in there and self._admitted_or_ended(session) is not None:
                self._put_out(session, "lost")


def _why_over(session: LocalSession, app: AppFacts, standing: Collection[bytes], now_ms: int) -> CloseReason | None:
    """Of another App that had the key before; or of a Token that would be refused now, where the App says that this counts."""
    if session.app is not app and not token.is_same_app(session.app, app):
        return "app-removed"
    if app.close_sessions_on_expire and session.generation not in standing:
        return "token-revoked"
    if app.close_sessions_on_expire and 0 < session.expires_at_ms <= now_ms:
        return "token-expired"
    return None


def _reason(why: str) -> CloseReason:
    """Why a kick says that a Session was closed; whatever this version does not know is a kick."""
    reasons: dict[str, CloseReason] = {
        one: one for one in ("banned", "deactivated", "token-revoked", "replaced", "app-removed", "lost")
    }
    return reasons.get(why, "kicked")
