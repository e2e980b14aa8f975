"""What this process opened: the Sessions that it would bring back if Redis lost them.

By App and Gateway, for one epoch at a time; a higher one forgets the rest, as the lease does. Kept in memory only: a process
that dies has nothing to bring back, and the lease that it renewed ends by itself.

Called by `session_service` and `session_recovery`.
"""

from __future__ import annotations

from collections import deque

import msgspec

from gate.clock import monotonic_ms
from gate.core.model import AppFacts

GatewayKey = tuple[str, bytes]
"""An App's key and a Gateway's name."""
LOOKED_OVER_AT_LEAST = 200
LOOKS_FOR_ALL = 16
"""So many looks, one with each renewal, go over all Sessions of a Gateway: a minute and a half with a lease of 15 s."""
CLOSED_KEPT_MS = 5_000
"""How long what was closed is remembered, while more is closed: longer than what Redis may lose with `appendfsync everysec`."""


class OpenSession(msgspec.Struct, frozen=True, gc=False):
    """A Session as it would be opened again. `app` is what its App was when it was opened."""

    app: AppFacts
    user: bytes
    stored_id: str
    platform: str
    ip: str
    minted_at_ms: int
    since_ms: int


class _Gateway:
    """The Sessions of one, under one epoch."""

    __slots__ = ("asked_at_ms", "closed", "epoch", "sessions", "to_look_over")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.asked_at_ms = monotonic_ms()
        self.sessions: dict[tuple[bytes, str], OpenSession] = {}
        self.closed: deque[tuple[int, bytes, str]] = deque()
        self.to_look_over: list[OpenSession] = []


class Registry:
    """The Sessions of each Gateway that speaks through this process."""

    def __init__(self) -> None:
        self._gateways: dict[GatewayKey, _Gateway] = {}

    def lease(self, held: GatewayKey, epoch: int) -> None:
        """The Gateway's epoch is this one now; Sessions of another are over."""
        known = self._gateways.get(held)
        if known is None or known.epoch != epoch:
            self._gateways[held] = _Gateway(epoch)

    def asked_for(self, held: GatewayKey, epoch: int) -> int:
        """Its lease is asked for just now; how long, in ms, that was not done through here. 0 where this epoch is not known."""
        known = self._gateways.get(held)
        if known is None or known.epoch != epoch:
            return 0
        now_ms = monotonic_ms()
        silent_ms, known.asked_at_ms = now_ms - known.asked_at_ms, now_ms
        return silent_ms

    def let_go(self, held: GatewayKey, epoch: int) -> None:
        """Nobody renews this lease through here any more."""
        known = self._gateways.get(held)
        if known is not None and known.epoch == epoch:
            del self._gateways[held]

    def knows(self, held: GatewayKey) -> bool:
        """Whether it speaks through here."""
        return held in self._gateways

    def add(self, held: GatewayKey, epoch: int, session: OpenSession) -> None:
        """It is open."""
        known = self._gateways.get(held)
        if known is not None and known.epoch == epoch:
            known.sessions[session.user, session.stored_id] = session

    def has(self, held: GatewayKey, user: bytes, stored_id: str) -> bool:
        """Whether it is open, as far as is known here."""
        known = self._gateways.get(held)
        return known is not None and (user, stored_id) in known.sessions

    def drop(self, held: GatewayKey, user: bytes, stored_id: str) -> None:
        """It is not to be brought back."""
        if held in self._gateways:
            self._gateways[held].sessions.pop((user, stored_id), None)

    def note_closed(self, held: GatewayKey, epoch: int, user: bytes, stored_id: str) -> None:
        """It was closed just now."""
        known = self._gateways.get(held)
        if known is None or known.epoch != epoch:
            return
        now_ms = monotonic_ms()
        known.closed.append((now_ms, user, stored_id))
        while known.closed[0][0] < now_ms - CLOSED_KEPT_MS:
            known.closed.popleft()

    def sessions(self, held: GatewayKey, epoch: int) -> list[OpenSession]:
        """All that is open under this lease."""
        known = self._gateways.get(held)
        return list(known.sessions.values()) if known is not None and known.epoch == epoch else []

    def some_sessions(self, held: GatewayKey, epoch: int) -> list[OpenSession]:
        """Some of what is open under this lease, others with each call until it was all of them."""
        known = self._gateways.get(held)
        if known is None or known.epoch != epoch:
            return []
        waiting = known.to_look_over = known.to_look_over or list(known.sessions.values())
        at = max(0, len(waiting) - max(LOOKED_OVER_AT_LEAST, len(known.sessions) // LOOKS_FOR_ALL))
        some = waiting[at:]
        del waiting[at:]
        return some

    def closed_lately(self, held: GatewayKey, epoch: int) -> list[tuple[bytes, str]]:
        """User and stored id of what was closed in the last seconds in which anything was."""
        known = self._gateways.get(held)
        return [closed[1:] for closed in known.closed] if known is not None and known.epoch == epoch else []

    def __len__(self) -> int:
        return sum(len(gateway.sessions) for gateway in self._gateways.values())
