"""A newer Token on an open WebSocket: the server reports in time when its Token ends; the client sends another one.

The Token must be of the same User. The Session stays; only the expiry, the moment of minting and the key of its Token are
replaced. Called by `websocket` and `messages`.
"""

from __future__ import annotations

import asyncio

import msgspec

from gate.auth_failures import TOKEN_REASONS, auth_failed
from gate.errors import InvalidInput, TokenRefused
from gate.http.client.notices import TokenEnding
from gate.http.client.watcher import Push
from gate.http.context import Deps
from gate.presence.local_gateway import LocalSession
from gate.replica.authorization import authorize_connect

# How long before its end it is reported, or a fifth of what is left if that is less.
ENDING_AHEAD_MS = 60_000
# The next try where the client has not taken what it was sent before.
AGAIN_S = 0.2


class Renewal:
    """Of one connection; `close` it with that."""

    def __init__(self, deps: Deps, session: LocalSession, push: Push) -> None:
        self._deps = deps
        self._session = session
        self._push = push
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Wait for the moment to report the end of the present Token, if it ends."""
        self.close()
        left_ms = self._session.expires_at_ms - self._deps.now_ms()
        if left_ms > 0:
            wait_ms = left_ms - min(ENDING_AHEAD_MS, left_ms // 5)
            self._timer = asyncio.get_running_loop().call_later(wait_ms / 1_000, self._report)

    def close(self) -> None:
        """Report nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def renew(self, shown: str) -> int | None:
        """Take a newer Token; its expiry, None for never. `TokenRefused`, and `InvalidInput` for that of another User."""
        session = self._session
        try:
            with self._deps.replica as snapshot:
                # Of this App only: the Token of another one is refused before its signature is looked at.
                by = authorize_connect(snapshot, shown, self._deps.now_ms(), session.app.key)
        except TokenRefused as refused:
            if (reason := TOKEN_REASONS.get(refused.fault)) is not None:
                auth_failed("websocket", reason, session.app.key, session.ip)
            raise
        if by.user != session.user:
            # A valid Token in the wrong place: it may have been stolen.
            auth_failed("websocket", "not-accepted", session.app.key, session.ip)
            raise InvalidInput("token", "is of another User than the one of this connection: open another connection")
        # Together, without a wait in between: a revocation and the expiry are compared with these.
        session.minted_at_ms, session.generation = by.minted_at_ms, by.generation
        session.expires_at_ms = by.expires_at_ms
        self.begin()
        return by.expires_at_ms or None

    def _report(self) -> None:
        # In a turn of its own: Tokens of one moment end in one moment.
        self._deps.pushing.add(self._push_ending)

    async def _push_ending(self) -> float | None:
        expires_ms = self._session.expires_at_ms
        in_ms = max(0, expires_ms - self._deps.now_ms())
        if not expires_ms:
            return None
        return None if await self._push(msgspec.json.encode(TokenEnding(expires=expires_ms, in_ms=in_ms))) else AGAIN_S
