"""Reports failed authentication to `gate.auth_failures`, around the steps that authenticate a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from gate.auth_failures import TOKEN_REASONS, AuthReason, Surface, auth_failed
from gate.errors import AppUnknown, GateError, InvalidInput, TokenRefused
from gate.http.context import Deps
from gate.http.errors import CredentialsWrong, TriedTooOften
from gate.http.responses import CALL_ID
from gate.store.writer import ORIGIN, Origin, OriginKind

WHO = web.RequestKey("who", dict[str, str])
"""Who was authenticated, for the access log: `app`, `key` or `operator`."""


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
