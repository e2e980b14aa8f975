"""How Gate closes an open WebSocket: one row per reason, with its close code and whether the client should reconnect.

Before the close frame Gate sends `{"type": "closing", "reason", "code", "message", "reconnect", "reconnect_ms", ...}`, because
browsers show the close code to a page but not always the text. Faults of the WebSocket protocol close with the codes of RFC
6455 and without this message: 1002 malformed frame, 1007 not UTF-8, 1009 message too long.

A client that may reconnect waits `reconnect_ms` first. The time is random, so that clients that were disconnected together
do not reconnect together. Pure. Called by `gate.http.client` and the command line's client.
"""

from __future__ import annotations

from typing import NamedTuple

from gate.core.presence import CloseReason
from gate.errors import TokenFault

FIRST_RECONNECT_MS = 500
# Of the clients that one node disconnects together: a tenth of what a process takes, since other nodes' clients come too.
RECONNECTS_A_SECOND = 1_000


class Ending(NamedTuple):
    """What the client receives. `comes_back` is True if the same client with the same Token may succeed at once."""

    code: int
    comes_back: bool
    message: str


# By close reason.
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


class Refusal(NamedTuple):
    """How a Token in a first message is refused: the close code, and whether the same Token may succeed later."""

    code: int
    comes_back: bool


# By the word of the answer that refuses the same Token at the handshake; a Ban and a deactivation have the words of `ENDINGS`.
REFUSALS: dict[str, Refusal] = {
    "invalid": Refusal(4400, False),
    "unauthorized": Refusal(4400, False),
    "token-malformed": Refusal(4401, False),
    "token-forged": Refusal(4401, False),
    "token-revoked": Refusal(4401, False),
    "app-unknown": Refusal(4401, False),
    "token-expired": Refusal(4402, False),
    "banned": Refusal(4403, False),
    "deactivated": Refusal(4410, False),
    "too-many-sessions": Refusal(4429, True),
    "rate-limited": Refusal(4429, True),
    "unavailable": Refusal(1013, True),
    "stale": Refusal(1013, True),
}

# The close reason of a Session whose Token would be refused now, by fault of the Token.
REASON_OF_FAULT: dict[TokenFault, CloseReason] = {
    "malformed": "token-revoked",
    "app-unknown": "app-removed",
    "forged": "token-revoked",
    "expired": "token-expired",
    "user-deactivated": "deactivated",
    "revoked": "token-revoked",
    "user-banned": "banned",
}


def reconnect_ms(together: int, drawn: float) -> int:
    """Return the wait of one client of `together` that are disconnected at once; `drawn` is random, from 0 to 1."""
    spread_ms = max(1_000, together * 1_000 // RECONNECTS_A_SECOND)
    return FIRST_RECONNECT_MS + int(spread_ms * drawn)
