"""Who calls: an App, by HTTP Basic with its key and a secret, or by RongCloud's signature.

The secret of HTTP Basic is the App's own or that of one of its keys, whose scopes the caller then has. Only the App's own
secrets sign. A signature covers neither path nor body, so it opens `/user/*`; `/v1` it opens for Apps with `strict_signature`
alone, where it can be used once and soon.

A signature is the hex SHA-1 of secret + nonce + timestamp, the header strings as sent, in letters of either case: the
.NET SDKs send capitals. The official SDKs send seconds where the documents say milliseconds, and one signs once for the
life of its process; so neither freshness nor a single use is asked for, unless the App turned on `strict_signature`.
During a rotation both secrets sign. Secrets are read from the Replica: with Redis away callers are still known (a strict
App's signatures alone need Redis, to know the nonces that were used).
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hmac import compare_digest
from typing import NamedTuple

from aiohttp import web

from gate.auth_failures import TOKEN_REASONS, AuthReason, Surface, auth_failed
from gate.core.app_secrets import caller_with
from gate.core.model import AppFacts
from gate.core.scopes import Caller, app_caller
from gate.core.signature import CALLBACK_NONCE, signature_of
from gate.errors import AppUnknown, GateError, InvalidInput, TokenRefused
from gate.http.bodies import TooLong
from gate.http.context import CALL_ID, WHO, AppRequest, Deps
from gate.http.errors import CredentialsWrong, TriedTooOften
from gate.replica.app_reading import AppReading
from gate.replica.reading import Reading
from gate.store.writer import ORIGIN, Origin, OriginKind

APP_HEADER = "Gate-App"
"""The App that an operator's call of `/v1` is about. With it, only operators' credentials are accepted (`operators`)."""

MAX_NONCE_CHARS = 128
"""Under `strict_signature` nonces are remembered, so their length has a bound; elsewhere any header will do."""

_FIRST_MS = 100_000_000_000
"""A Timestamp from here on is milliseconds (1973), below it seconds (until the year 5138)."""

MAX_PROVEN = 1_024
"""Headers of callers; there are about as many as Apps have secrets and keys in use."""
MAX_PROVEN_CHARS = 256
"""The longest key and secret in base64 take 222."""


class Authenticated(NamedTuple):
    """The App's settings when it was authenticated, and which of its credentials called."""

    facts: AppFacts
    caller: Caller


PROVEN: dict[str, Authenticated] = {}
"""Basic headers that were right, and the settings that they were compared with.

A header is right for as long as the App has the same settings: not equal ones, but the object that was read once, which is
replaced whenever the App's record changes. So nothing outlives a change of a secret. Wrong headers are not kept.
"""

_KEY_AND_SECRET = "App key and secret"
_SIGNATURE_ALONE = (
    "a signature opens /user/* only: send HTTP Basic with App key and secret, or turn on the App's strict_signature"
)
_WRONG = "the App key or its secret is wrong"


_SIGNED_HEADERS = [(name, f"RC-{name}") for name in ("App-Key", "Nonce", "Timestamp", "Signature")]


class Signed(NamedTuple):
    """The four headers, as sent."""

    app_key: str
    nonce: str
    timestamp: str
    signature: str


def signed_headers(headers: Mapping[str, str]) -> Signed:
    """The headers, each under its own name or with `RC-` before it; `InvalidInput` names the one that is missing."""
    values = []
    for name, other in _SIGNED_HEADERS:
        value = headers.get(name) or headers.get(other)
        if not value:
            raise InvalidInput(name, "is required")
        values.append(value)
    return Signed(*values)


async def signed_caller(headers: Mapping[str, str], deps: Deps, now_ms: int) -> Authenticated:
    """The App that signed this request."""
    signed = signed_headers(headers)
    with deps.replica as snapshot:
        facts = _signer(signed, snapshot).app
    if facts.strict_signature:
        await _insist(facts, signed, deps, now_ms)
    return Authenticated(facts, app_caller(facts.key))


async def signed_request(deps: Deps, limits: Sequence[str], request: web.Request) -> AppRequest:
    """A request of RongCloud's API, by the App that signed it. Counts against these limits."""
    now_ms = deps.now_ms()
    try:
        facts, caller = await signed_caller(request.headers, deps, now_ms)
    except GateError as fault:
        report_failure(request, deps, "rongcloud", fault)
        raise
    called_by(request, deps, caller.kind, caller.name, {"app": facts.key})
    if facts.rate_limits:
        deps.limiter.spend(facts, limits)
    return AppRequest(request, deps, facts, now_ms, caller)


async def v1_caller(headers: Mapping[str, str], deps: Deps, now_ms: int) -> Authenticated:
    """The App that calls `/v1`, by Basic, or by signature if it is strict."""
    basic = headers.get("Authorization")
    if basic is not None:
        if basic not in PROVEN:
            basic_pair(basic, _KEY_AND_SECRET)  # a malformed header is refused while there is no Replica, too
        with deps.replica as snapshot:
            app, caller = _basic_caller(basic, snapshot)
        return Authenticated(app.app, caller)
    if _names_an_app(headers):
        signed = await signed_caller(headers, deps, now_ms)
        _require_strict(signed.facts)
        return signed
    raise CredentialsWrong("give HTTP Basic with App key and secret", "missing")


def fast_caller(headers: Mapping[str, str], snapshot: Reading) -> tuple[AppReading, Caller] | None:
    """As `v1_caller`, without Redis; None where `v1_caller` has to decide: a signature, no credentials, or an operator's."""
    basic = headers.get("Authorization")
    return None if basic is None or APP_HEADER in headers else _basic_caller(basic, snapshot)


def admitted_caller(headers: Mapping[str, str], snapshot: Reading) -> Caller:
    """As `v1_caller`, for a request that was admitted before and lasts: its signature's age and nonce count no more."""
    called = fast_caller(headers, snapshot)
    if called is not None:
        return called[1]
    signer = _signer(signed_headers(headers), snapshot).app
    _require_strict(signer)
    return app_caller(signer.key)


def check_caller(headers: Mapping[str, str]) -> dict[str, str]:
    """Who called, for the log, from the headers of a check that was answered."""
    basic = headers.get("Authorization", "")
    proven = PROVEN.get(basic)
    if proven is not None:
        return who_of(proven.facts.key, proven.caller)
    return {"app": basic_pair(basic, _KEY_AND_SECRET)[0] if basic else signed_headers(headers).app_key}


def who_of(app_key: str, caller: Caller) -> dict[str, str]:
    """The App, and its key if that was used, by the names of the log's fields."""
    return {"app": app_key, "key": caller.name} if caller.kind == "key" else {"app": app_key}


def basic_pair(header: str, taken: str) -> tuple[str, str]:
    """The two halves of an `Authorization: Basic` header; `CredentialsWrong` names what is `taken` here."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise CredentialsWrong(f"this endpoint takes HTTP Basic with {taken}", "malformed" if header else "missing")
    try:
        name, _, secret = binascii.a2b_base64(encoded.strip(), strict_mode=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise CredentialsWrong("the Authorization header is not Basic credentials in base64", "malformed") from None
    return name, secret


def bearer(headers: Mapping[str, str]) -> str:
    """The Token in the request's headers; `CredentialsWrong` without one."""
    scheme, _, given = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise CredentialsWrong(
            "give the User's Token, as Authorization: Bearer TOKEN", "malformed" if scheme else "missing"
        )
    return given.strip()


def _basic_caller(basic: str, snapshot: Reading) -> tuple[AppReading, Caller]:
    proven = PROVEN.get(basic)
    if proven is not None:
        app = snapshot.app(proven.facts.key)
        if app is not None and app.app is proven.facts:
            return app, proven.caller
    app_key, secret = basic_pair(basic, _KEY_AND_SECRET)
    app = snapshot.app(app_key)
    if app is None:
        raise CredentialsWrong(_WRONG, "unknown-app")
    caller = caller_with(app.app, secret.encode("utf-8", "surrogateescape"))
    if caller is None:
        raise CredentialsWrong(_WRONG, "wrong-secret", app_key)
    if len(basic) <= MAX_PROVEN_CHARS:
        if len(PROVEN) >= MAX_PROVEN:
            PROVEN.clear()
        PROVEN[basic] = Authenticated(app.app, caller)
    return app, caller


def _require_strict(facts: AppFacts) -> None:
    if not facts.strict_signature:
        raise CredentialsWrong(_SIGNATURE_ALONE, "not-accepted", facts.key)


def _names_an_app(headers: Mapping[str, str]) -> bool:
    return "App-Key" in headers or "RC-App-Key" in headers


def _signer(signed: Signed, snapshot: Reading) -> AppReading:
    """The App whose secret signed this request; whether the signature is fresh is not looked at."""
    app = snapshot.app(signed.app_key)
    if app is None:
        raise AppUnknown(f"no App has the key {signed.app_key[:40]!r}")
    # The header is lowered, which depends on nothing secret; the comparison stays one of constant time.
    given = signed.signature.lower().encode("utf-8", "surrogateescape")
    expected = [signature_of(secret, signed.nonce, signed.timestamp).encode() for secret in app.app.secrets]
    # Nonce and timestamp joined, as they are signed: only the sender says where the one ends and the other begins.
    is_callback = (signed.nonce + signed.timestamp).startswith(CALLBACK_NONCE)
    # A sum of a list: `any` would stop at the first match.
    if is_callback or not sum([compare_digest(given, one) for one in expected]):
        raise CredentialsWrong("The signature is wrong, please check.", "wrong-signature", app.app.key)
    return app


async def _insist(facts: AppFacts, signed: Signed, deps: Deps, now_ms: int) -> None:
    if len(signed.nonce) > MAX_NONCE_CHARS:
        raise TooLong("Nonce", f"must be at most {MAX_NONCE_CHARS} characters, {len(signed.nonce)} were sent")
    # With a zero ahead it could be one that was shown before, together with a nonce that ended in that zero.
    if not (signed.timestamp.isascii() and signed.timestamp.isdigit() and len(signed.timestamp) <= 16) or (
        signed.timestamp.startswith("0")
    ):
        raise InvalidInput("Timestamp", "must be Unix time in seconds or milliseconds")
    moment = int(signed.timestamp)
    signed_at_ms = moment if moment >= _FIRST_MS else moment * 1_000
    window_ms = facts.signature_window_s * 1_000
    if abs(now_ms - signed_at_ms) > window_ms:
        raise CredentialsWrong(
            f"The Timestamp is more than {facts.signature_window_s} s from now; sign each request again.",
            "expired",
            facts.key,
        )
    if not await deps.store.nonces.spend(facts.key, signed.nonce, signed_at_ms + window_ms):
        raise CredentialsWrong("The Nonce was used before; sign each request again.", "replayed", facts.key)


# What the log, the audit and the metrics learn of a caller, or of one that was refused


def called_by(request: web.Request, deps: Deps, kind: OriginKind, name: str, who: dict[str, str] | None = None) -> None:
    """From here on the writes of this request are its caller's in the audit. `who` is for the access log."""
    ORIGIN.set(Origin(kind, name, request.get(CALL_ID, ""), deps.address_of(request)))
    if who is not None:
        request[WHO] = who


@contextmanager
def watched(request: web.Request, deps: Deps, surface: Surface) -> Iterator[None]:
    """Report what is raised inside, if the credentials are the reason."""
    try:
        yield
    except GateError as fault:
        report_failure(request, deps, surface, fault)
        raise


def report_failure(request: web.Request, deps: Deps, surface: Surface, fault: GateError) -> None:
    """Report this failure of the steps that authenticate a request, if the credentials are the reason."""
    reason = _reason_of(fault, surface)
    if reason is not None:
        app = fault.app if isinstance(fault, CredentialsWrong) else ""
        auth_failed(surface, reason, app, deps.address_of(request))


def _reason_of(fault: GateError, surface: Surface) -> AuthReason | None:
    if isinstance(fault, CredentialsWrong):
        return fault.reason
    if isinstance(fault, TokenRefused):
        return TOKEN_REASONS.get(fault.fault)
    if isinstance(fault, AppUnknown):
        return "unknown-app"
    if isinstance(fault, TriedTooOften):
        return "throttled"
    # Elsewhere it is the path or the query that is wrong, not a header of a signature.
    if isinstance(fault, InvalidInput) and surface in ("http", "rongcloud"):
        return "missing" if fault.problem == "is required" else "malformed"
    return None
