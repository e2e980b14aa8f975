"""How an open WebSocket is ended by Gate: one row a reason, with its close code and whether coming back makes sense.

Before the close frame the client is sent `{"type": "closing", "reason", "code", "message", "reconnect", "reconnect_ms", ...}`,
since browsers show the code to a page but not always the words. Faults of the WebSocket protocol itself close with the codes
that RFC 6455 has for them, and without such a message: 1002 malformed frame, 1007 not UTF-8, 1009 message too long.

A client that may come back waits for `reconnect_ms` first, which is drawn at random, so that those who were put out together
do not come back together. Pure. Called by `gate.http.client` and the command line's client.
"""

from __future__ import annotations

from typing import NamedTuple

from gate.core.presence import CloseReason
from gate.errors import TokenFault

FIRST_RECONNECT_MS = 500
RECONNECTS_A_SECOND = 1_000
"""Of a node's clients that are put out together: a tenth of what one process takes, since other nodes' may come too."""


class Ending(NamedTuple):
    """What a client is told. `comes_back` says whether the same client with the same Token may do better, now."""

    code: int
    comes_back: bool
    message: str


ENDINGS: dict[CloseReason, Ending] = {
    "shutting-down": Ending(1001, True, "this node is shutting down: connect again, through any node"),
    "unsupported": Ending(1003, False, "messages are JSON in text frames, a binary frame was sent: mend the client"),
    "token-revoked": Ending(4401, False, "the Token was revoked: get a new one from your server"),
    "token-expired": Ending(4402, False, "the Token has expired: get a new one from your server"),
    "banned": Ending(4403, False, "the User is banned: come back when the Ban has ended"),
    "app-removed": Ending(4404, False, "the App was removed"),
    "silent": Ending(4408, True, "no answer to a ping in time: connect again"),
    "replaced": Ending(4409, False, "a newer device of this User took the place of this one"),
    "deactivated": Ending(4410, False, "the User is deactivated"),
    "kicked": Ending(4411, True, "an operator or the app server closed this Session"),
    "lost": Ending(4412, True, "this Session was lost: connect again"),
    "logout": Ending(4413, False, "the client logged out"),
    "flooding": Ending(4429, True, "too many messages a second: connect again, and send fewer"),
}
"""By reason."""

REASON_OF_FAULT: dict[TokenFault, CloseReason] = {
    "malformed": "token-revoked",
    "app-unknown": "app-removed",
    "forged": "token-revoked",
    "expired": "token-expired",
    "user-deactivated": "deactivated",
    "revoked": "token-revoked",
    "user-banned": "banned",
}
"""Why a Session is closed whose Token would be refused now."""


def reconnect_ms(together: int, drawn: float) -> int:
    """How long one of so many clients that are put out together should wait; `drawn` is from 0 to 1."""
    spread_ms = max(1_000, together * 1_000 // RECONNECTS_A_SECOND)
    return FIRST_RECONNECT_MS + int(spread_ms * drawn)
