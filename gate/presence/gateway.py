"""A Gateway's lease under one epoch, and the Sessions that were opened under it through this process.

The Sessions are those that would be opened again if Redis lost them. They are kept in memory only: a process that dies has
nothing to bring back, and the lease that it renewed ends by itself. A higher epoch is another `Gateway`.

Made by `session_service`. The RESP port has one for each lease of its connections, `app_lease` has one for each App whose
WebSockets this process holds.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from gate.clock import monotonic_ms, wall_ms
from gate.core.presence import CloseReason, Verified, session_parts
from gate.core.sessions import CloseOutcome, GatewayKey, OpenOutcome, OpenSession
from gate.presence.batches import PendingResult
from gate.store.link import Reply
from gate.store.presence import OPEN_OUTCOMES, closed

if TYPE_CHECKING:
    from gate.presence.session_service import SessionService

LOOKED_OVER_AT_LEAST = 200
LOOKS_FOR_ALL = 16
"""So many looks, one with each renewal, go over all Sessions of a Gateway: a minute and a half with a lease of 15 s."""
CLOSED_KEPT_MS = 5_000
"""How long what was closed is remembered, while more is closed: longer than what Redis may lose with `appendfsync everysec`."""


class Gateway:
    """One Gateway of one App. `open` and `close` raise `Unavailable` where too many calls are under way."""

    __slots__ = (
        "_looked_over",
        "_service",
        "app_key",
        "asked_at_ms",
        "closed",
        "epoch",
        "holds",
        "name",
        "server_id",
        "sessions",
    )

    def __init__(self, service: SessionService, key: GatewayKey, epoch: int, *, holds: bool = True) -> None:
        self.app_key, self.name = key
        self.epoch = epoch
        self.holds = holds
        """False if the lease was refused: `epoch` is the one that counts, and nothing can be opened under this one."""
        self.sessions: dict[str, OpenSession] = {}
        """Those that are open, as far as this process knows, by id."""
        self.closed: deque[tuple[int, bytes, str]] = deque()
        """When, User and stored id of the Sessions that were closed last."""
        self.asked_at_ms = monotonic_ms()
        self.server_id = ""
        """The run of Redis that has the Sessions; empty where they may be lost."""
        self._service = service
        self._looked_over: list[OpenSession] = []

    @property
    def key(self) -> GatewayKey:
        """The App's key and this Gateway's name."""
        return self.app_key, self.name

    def new_session(self, by: Verified, platform: str, ip: str) -> OpenSession:
        """A Session to `open`, with an id of its own."""
        return OpenSession(
            by.app, self.name, self.epoch, by.user, self._service.ids.next(by.user), platform, ip, by.minted_at_ms,
            by.log_epoch, by.log_seq,
        )  # fmt: skip

    def open(self, session: OpenSession) -> PendingResult[OpenOutcome]:
        """Open a new Session, or reopen one that Redis lost. With any outcome but `OK`, the Session is not open."""
        session.epoch = self.epoch
        call = self._service.store.opening(session)
        if session.since_ms is None:  # after the call was built: the script must see it as new
            session.since_ms = wall_ms()
        return self._service.batches.submit(call, partial(self._opened, session))

    def close(self, session_id: str, why: CloseReason) -> PendingResult[CloseOutcome]:
        """Close a Session of this Gateway. Raises `InvalidInput` for what is no Session's id."""
        stored_id, user = session_parts(session_id)
        self.sessions.pop(session_id, None)
        call = self._service.store.closing(self.app_key, self.name, self.epoch, user, stored_id, why)
        return self._service.batches.submit(call, partial(self._closed, user, stored_id))

    def abandon(self, session_id: str) -> None:
        """Close a Session that no client learned of, if it came to be at all, as soon as Redis is reachable."""
        self._service.abandon(self, session_id)

    def forget(self, session_id: str) -> None:
        """Another one closed this Session: it is not brought back."""
        self.sessions.pop(session_id, None)

    def look_over(self) -> None:
        """Begin to forget what others closed of a Gateway that need not report kicks. Call it with each renewal."""
        self._service.look_over(self)

    def forget_all(self) -> None:
        """Forget all Sessions: the lease ended long ago, and they stay closed."""
        self.sessions.clear()
        self.closed.clear()
        self._looked_over.clear()

    def silent_ms(self) -> int:
        """Record that the lease is requested now. Returns the ms since the previous request."""
        now_ms = monotonic_ms()
        silent_ms, self.asked_at_ms = now_ms - self.asked_at_ms, now_ms
        return silent_ms

    def some_sessions(self) -> list[OpenSession]:
        """Some of the open Sessions, others with each call until it was all of them."""
        waiting = self._looked_over = self._looked_over or list(self.sessions.values())
        # From the end, as taking from there moves nothing.
        at = max(0, len(waiting) - max(LOOKED_OVER_AT_LEAST, len(self.sessions) // LOOKS_FOR_ALL))
        some = waiting[at:]
        del waiting[at:]
        return some

    def closed_lately(self) -> list[tuple[bytes, str]]:
        """Recently closed Sessions as (User, stored id), from the last few seconds that had closes."""
        return [closed[1:] for closed in self.closed]

    def _opened(self, session: OpenSession, reply: Reply) -> OpenOutcome:
        outcome = OPEN_OUTCOMES[reply]
        if outcome is OpenOutcome.OK:
            self.sessions[session.id] = session
        return outcome

    def _closed(self, user: bytes, stored_id: str, reply: Reply) -> CloseOutcome:
        outcome = closed(reply)
        if outcome is CloseOutcome.CLOSED:
            now_ms = monotonic_ms()
            self.closed.append((now_ms, user, stored_id))
            while self.closed[0][0] < now_ms - CLOSED_KEPT_MS:
                self.closed.popleft()
        return outcome
