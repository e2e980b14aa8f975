"""Failed attempts to sign in, on every surface: a counter, and log lines whose number a second is bounded.

A line names the surface, the reason, the App if it exists, and the address. It never holds what was presented. A flood writes
`MAX_LINES_A_SECOND` lines a second in each process; the next line, or one a second later, has the number that was left out.

Called by the RESP port, the HTTP APIs and the console.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import structlog

from gate.clock import monotonic_ms
from gate.errors import TokenFault
from gate.metrics import AUTH_FAILURES

Surface = Literal["resp", "http", "rongcloud", "client", "websocket", "operator", "console"]
"""`http` is `/v1`, `rongcloud` is `/user/*`, `operator` is `/v1/apps`."""
AuthReason = Literal[
    "missing",
    "malformed",
    "unknown-app",
    "wrong-secret",
    "wrong-signature",
    "not-accepted",
    "expired",
    "replayed",
    "bad-token",
    "revoked",
    "wrong-password",
    "throttled",
]
"""`not-accepted`: right credentials of a kind that this endpoint does not take."""

TOKEN_REASONS: dict[TokenFault, AuthReason] = {
    "malformed": "bad-token",
    "forged": "bad-token",
    "app-unknown": "unknown-app",
    "expired": "expired",
    "revoked": "revoked",
}
"""The other faults are of a User whose Token is right."""

MAX_LINES_A_SECOND = 10
_SECOND_MS = 1_000

_log = structlog.get_logger("gate.auth")


class AuthFailures:
    """Counts and logs for one process."""

    def __init__(self, monotonic: Callable[[], int] = monotonic_ms) -> None:
        self._monotonic = monotonic
        self._second_began_ms = -_SECOND_MS
        self._lines = 0
        self._left_out = 0

    def note(self, surface: Surface, reason: AuthReason, app: str = "", peer: str = "") -> None:
        """One failure. `app` is the key of an App that exists, "" otherwise."""
        AUTH_FAILURES.labels(surface, reason).inc()
        now_ms = self._monotonic()
        if now_ms - self._second_began_ms >= _SECOND_MS:
            self._second_began_ms, self._lines = now_ms, 0
        if self._lines == MAX_LINES_A_SECOND:
            self._leave_out()
            return
        self._lines += 1
        fields = {"app": app} if app else {}
        if self._left_out:
            fields["left_out"] = str(self._left_out)
            self._left_out = 0
        _log.warning("auth-failed", surface=surface, reason=reason, peer=peer, **fields)

    def _leave_out(self) -> None:
        self._left_out += 1
        if self._left_out == 1:
            with suppress(RuntimeError):  # without a loop the next failure says it
                asyncio.get_running_loop().call_later(_SECOND_MS / 1_000, self._say_left_out)

    def _say_left_out(self) -> None:
        if self._left_out:
            _log.warning("auth-failed lines were left out", left_out=self._left_out)
            self._left_out = 0


auth_failed = AuthFailures().note
"""Of this process."""
