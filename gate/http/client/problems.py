"""How an error is worded to an end user's app: as `/v1` words it, and for a Token that is not accepted:

    HTTP  word               what happened                           what the app should do
    401   unauthorized       no Token was shown                      log in
    401   token-malformed    it is malformed or cut off       ask its server for a new one
    401   token-forged       not signed by any secret of the App     likewise; also after the secret was dropped
    401   token-expired      it expired                        likewise
    401   token-revoked      it was minted before a revocation       likewise, after logging in
    401   app-unknown        it is of an App that is not served      nothing helps
    403   user-banned        until `until` (null: without end)       come back then; the same Token will do
    403   user-deactivated   the User is deactivated                 nothing helps
    429   too-many-sessions  the User has as many as there may be    close one

The Token's signature is verified before its User's state is read, so only the User's own app learns that state.
"""

from __future__ import annotations

from gate.core.model import FOREVER_MS
from gate.errors import GateError, SessionRefused, TokenFault, TokenRefused, Unavailable
from gate.http.errors import Problem, v1_problem

FAULTS: dict[TokenFault, tuple[int, str]] = {
    "malformed": (401, "token-malformed"),
    "app-unknown": (401, "app-unknown"),
    "forged": (401, "token-forged"),
    "expired": (401, "token-expired"),
    "revoked": (401, "token-revoked"),
    "user-deactivated": (403, "user-deactivated"),
    "user-banned": (403, "user-banned"),
}
"""Status and word of each reason to refuse a Token."""

SESSIONS_FULL: tuple[int, str] = (429, "too-many-sessions")
"""Status and word of a connect for which its User has no Session left."""

FULL_FOR_S = "60"
"""Nothing says when another Session of the User ends; this keeps a client from asking in a loop."""

_CHALLENGE = 'Bearer realm="gate"'


def client_problem(fault: GateError, path: str) -> Problem:
    """The answer under `/client/`."""
    if isinstance(fault, TokenRefused):
        problem = _refusal(fault)
    elif isinstance(fault, SessionRefused) and fault.fault == "full":
        status, word = SESSIONS_FULL
        problem = Problem(status, {"error": word, "message": str(fault)}, {"Retry-After": FULL_FOR_S})
    elif isinstance(fault, SessionRefused):  # this node, at this moment
        problem = v1_problem(Unavailable(str(fault)), path)
    else:
        problem = v1_problem(fault, path)
    if problem.status == 401:
        named = ', error="invalid_token"' if isinstance(fault, TokenRefused) else ""
        problem.headers["WWW-Authenticate"] = _CHALLENGE + named
    return problem


def _refusal(fault: TokenRefused) -> Problem:
    status, word = FAULTS[fault.fault]
    body: dict[str, object] = {"error": word, "message": str(fault)}
    if fault.until_ms is not None:
        body["until"] = fault.until_ms if fault.until_ms < FOREVER_MS else None
    return Problem(status, body, {})
