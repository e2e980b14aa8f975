"""How an error becomes an HTTP answer: one table for each wording.

`/user/*` answers as RongCloud does: `{"code", "errorMessage", "url"}` with the HTTP status that belongs to the code.
Everything else answers `{"error": word, "message", "parameter"?}`. Both add `"outcome": "unknown"` when a write may
still land. The first row that fits an error wins, so a row stands above the rows of its base classes.

    HTTP  code  word                what happened
    400   1002  invalid             a parameter is missing or wrong; the text names it, its bound and what was sent
    400   1005  too-long (413)      a value is longer than its limit
    413   1005  too-long            the body is longer than its endpoint takes
    415   1002  body-encoded        the body is compressed; send it as it is
    400   1002  unauthorized (401)  no App has this key
    401   1004  unauthorized        the signature, or key and secret, are wrong
    403   2007  user-limit          the App has as many registered Users as it may
    401   1007  refused (409)       only development Apps may do this
    400   1002  list-full (409)     the list would pass its ceiling; nothing was added
    400   1002  refused (409)       the state forbids it, such as banning a deactivated User
    403         forbidden           the operator's role, or the scopes of the App's key, do not suffice
    429   1008  rate-limited        more calls a second than the App's own `rate_limits` allow; `Retry-After`
    429         too-many-tries      an operator's password was wrong too often; `Retry-After`
    430   1009                      RongCloud has this feature and Gate does not; the text names it
    404   404   not-found           no such endpoint, or no such thing
    405   405   method-not-allowed
    410         cursor-gone         a feed can't be read on from this cursor; read the state again
    426         upgrade-required    this is where WebSockets connect
    429         too-many-streams    the App has as many event streams open in this HTTP process as it may
    503   1000  stale               the Replica is too old for this question (409 where `min` was not reached in time)
    503   1000  unavailable         Redis or the Replica is away; `Retry-After` says when to come back
    500   1000  internal            a bug; the log has it under the request's id

An end user's app gets the wording of `/v1`, and for a Token that is not accepted:

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

from typing import NamedTuple

from gate.auth_failures import AuthReason
from gate.core.ids import shown
from gate.core.model import FOREVER_MS
from gate.errors import (
    AppUnknown,
    FeedReset,
    GateError,
    InvalidInput,
    ListFull,
    NotFound,
    NotInProduction,
    Refused,
    ReplicaError,
    ScopeMissing,
    SessionRefused,
    Stale,
    StoreUnavailable,
    TokenFault,
    TokenRefused,
    Unavailable,
    UserLimitReached,
    UserUnknown,
)
from gate.http.bodies import BodyEncoded, BodyTooLong, TooLong
from gate.http.limits import RateExceeded
from gate.http.room import StreamsFull

RETRY_AFTER_S = Unavailable.retry_after_s


class CredentialsWrong(GateError):
    """Signature, or key and secret, do not belong together; the text never says which half.

    `reason` and `app`, the key of an App that exists, are for the log and the counter.
    """

    def __init__(self, problem: str, reason: AuthReason, app: str = "") -> None:
        super().__init__(problem)
        self.reason: AuthReason = reason
        self.app = app


class RoleInsufficient(GateError):
    """The operator is known, and may not do this."""


class TriedTooOften(GateError):
    """Wrong passwords came too fast; nothing was compared."""

    def __init__(self, problem: str, retry_after_s: int) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class FeatureUnsupported(GateError):
    """The path is RongCloud's, and Gate does not do what it is for; nothing was done."""

    def __init__(self, feature: str) -> None:
        super().__init__(f"Gate does not offer {feature}.")


class PathUnknown(NotFound):
    """No endpoint has this path."""


class MethodWrong(Refused):
    """The endpoint does not take this method; `allowed` lists those that it takes."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method[:16]} is not allowed here, use {allowed}")
        self.allowed = allowed


class UpgradeRequired(Refused):
    """The endpoint takes WebSocket handshakes only."""


class MinimumUnmet(Stale):
    """The Revision that the caller demands was not applied within the wait."""


class Internal(GateError):
    """The error that a caller gets for a bug."""


class Problem(NamedTuple):
    """An error, worded: everything but its bytes."""

    status: int
    body: dict[str, object]
    headers: dict[str, str]


CODES: tuple[tuple[type[GateError], int, int], ...] = (
    (BodyTooLong, 413, 1005),
    (BodyEncoded, 415, 1002),
    (TooLong, 400, 1005),
    (CredentialsWrong, 401, 1004),
    (RateExceeded, 429, 1008),
    (FeatureUnsupported, 430, 1009),
    # Above `NotFound`, its base, and `MethodWrong` above `Refused`.
    (PathUnknown, 404, 404),
    (MethodWrong, 405, 405),
    (InvalidInput, 400, 1002),
    # No 404, which is RongCloud's code for a path that does not exist.
    (NotFound, 400, 1002),
    (UserLimitReached, 403, 2007),
    (NotInProduction, 401, 1007),
    (Refused, 400, 1002),
    (Stale, 503, 1000),
    (Unavailable, 503, 1000),
    (ReplicaError, 503, 1000),
    (GateError, 500, 1000),
)

WORDS: tuple[tuple[type[GateError], int, str], ...] = (
    (TooLong, 413, "too-long"),
    (BodyEncoded, 415, "body-encoded"),
    (CredentialsWrong, 401, "unauthorized"),
    (AppUnknown, 401, "unauthorized"),
    (RateExceeded, 429, "rate-limited"),
    (StreamsFull, 429, "too-many-streams"),
    (TriedTooOften, 429, "too-many-tries"),
    (RoleInsufficient, 403, "forbidden"),
    (ScopeMissing, 403, "forbidden"),
    (MethodWrong, 405, "method-not-allowed"),
    (UpgradeRequired, 426, "upgrade-required"),
    (InvalidInput, 400, "invalid"),
    (NotFound, 404, "not-found"),
    (FeedReset, 410, "cursor-gone"),
    (ListFull, 409, "list-full"),
    (UserLimitReached, 403, "user-limit"),
    (Refused, 409, "refused"),
    (MinimumUnmet, 409, "stale"),
    (Stale, 503, "stale"),
    (Unavailable, 503, "unavailable"),
    (ReplicaError, 503, "unavailable"),
    # The last row fits every error that is left, so no look-up can fail.
    (GateError, 500, "internal"),
)


def rongcloud_problem(fault: GateError, path: str) -> Problem:
    """The answer under `/user/*`."""
    status, code = next((status, code) for kind, status, code in CODES if isinstance(fault, kind))
    body: dict[str, object] = {"code": code, "errorMessage": _rongcloud_message(fault), "url": path}
    return _problem(fault, status, body)


def v1_problem(fault: GateError, path: str) -> Problem:
    """The answer everywhere else."""
    status, word = next((status, word) for kind, status, word in WORDS if isinstance(fault, kind))
    body: dict[str, object] = {"error": word, "message": str(fault)}
    if isinstance(fault, AppUnknown):
        # The same text as for a wrong secret: an answer must not show which App keys exist.
        body["message"] = "the App key or its secret is wrong"
    if isinstance(fault, InvalidInput):
        body["parameter"] = fault.parameter
    if isinstance(fault, ScopeMissing):
        body |= {"scope": fault.scope, "key": fault.key}
    problem = _problem(fault, status, body)
    if status == 401:
        # RFC 9110 demands it of every 401. A browser asks for a password where it sees it.
        problem.headers["WWW-Authenticate"] = 'Basic realm="gate", charset="UTF-8"'
    return problem


def _rongcloud_message(fault: GateError) -> str:
    if isinstance(fault, AppUnknown):
        return "invalid App-Key."
    if isinstance(fault, UserUnknown):
        # RongCloud's own words, mistake included.
        return f"userId<{shown(fault.user)}> is not exist."
    if isinstance(fault, InvalidInput):
        subject = "The request body" if fault.parameter == "body" else f"The parameter {fault.parameter}"
        return f"{subject} {fault.problem}."
    return str(fault)


def _problem(fault: GateError, status: int, body: dict[str, object]) -> Problem:
    headers: dict[str, str] = {}
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(fault, RateExceeded | TriedTooOften | StreamsFull):
        headers["Retry-After"] = str(fault.retry_after_s)
    if isinstance(fault, UpgradeRequired):
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade"}
    if isinstance(fault, MethodWrong):
        headers["Allow"] = fault.allowed
    if isinstance(fault, StoreUnavailable) and fault.outcome == "unknown":
        # Not for a read, and not for a write that was refused before it was sent.
        body["outcome"] = fault.outcome
    return Problem(status, body, headers)


# Status and word of each reason to refuse a Token.
TOKEN_FAULTS: dict[TokenFault, tuple[int, str]] = {
    "malformed": (401, "token-malformed"),
    "app-unknown": (401, "app-unknown"),
    "forged": (401, "token-forged"),
    "expired": (401, "token-expired"),
    "revoked": (401, "token-revoked"),
    "user-deactivated": (403, "user-deactivated"),
    "user-banned": (403, "user-banned"),
}

# Status and word of a connect for which its User has no Session left.
SESSIONS_FULL: tuple[int, str] = (429, "too-many-sessions")

# Nothing says when another Session of the User ends; this keeps a client from asking in a loop.
FULL_FOR_S = "60"

_CHALLENGE = 'Bearer realm="gate"'


def client_problem(fault: GateError, path: str) -> Problem:
    """The answer under `/client/`."""
    if isinstance(fault, TokenRefused):
        problem = _token_refusal(fault)
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


def _token_refusal(fault: TokenRefused) -> Problem:
    status, word = TOKEN_FAULTS[fault.fault]
    body: dict[str, object] = {"error": word, "message": str(fault)}
    if fault.until_ms is not None:
        body["until"] = fault.until_ms if fault.until_ms < FOREVER_MS else None
    return Problem(status, body, {})
