"""What an operator does with its own account: a new password, which ends all other sessions; and sessions of the console.

A new password needs the present one. An admin of all Apps sees the sessions of all operators. Each has a button that ends it.
"""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from gate.console import PREFIX
from gate.console.acts import done
from gate.console.languages import N_
from gate.console.pages import page, see_other
from gate.console.request_context import SESSION_COOKIE, ConsoleContext
from gate.core.operators import MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARS, may, new_password
from gate.errors import InvalidInput, StoreUnavailable
from gate.http.auth import watched
from gate.http.errors import CredentialsWrong, TriedTooOften
from gate.http.forms import Form
from gate.store.console_sessions import SESSION_TTL_MS, ConsoleSession
from gate.store.passwords import hash_password
from gate.store.writer import Attribution

MAX_SESSION_CHARS = 64
# The reason in the audit.
OWN = "the operator's own change"


async def show_password(context: ConsoleContext) -> web.Response:
    """The form for a new password."""
    return _password_page(context)


async def change_password(context: ConsoleContext) -> web.Response:
    """Verify the present password as a sign-in does, and store the new one. This browser stays signed in, by a new session."""
    form = await context.sent()
    known, store = context.operator, context.deps.store
    if known.operator.sso:
        return _password_page(context, 409)
    try:
        new = _new(context, form)
        with watched(context.request, context.deps, "console"):
            # Of the same form and in the same count of guesses as a sign-in: an open browser must not try
            # passwords.
            old = _typed(context, form, "old")
            await context.session_auth.verify(store, known.operator.name, old, context.address)
    except InvalidInput as fault:
        return _password_page(context, 400, {fault.parameter: fault.problem})
    except CredentialsWrong:
        return _password_page(context, 400, {"old": context.gettext(N_("is not the present password"))})
    except TriedTooOften as fault:
        text = N_("was wrong too often; try again in %(seconds)s s")
        refused = _password_page(context, 429, {"old": context.gettext(text, seconds=fault.retry_after_s)})
        # As the sign-in answers it.
        refused.headers["Retry-After"] = str(fault.retry_after_s)
        return refused
    stored = await asyncio.to_thread(hash_password, new)
    # The key of cookies is derived from the stored hash: every cookie of the account ends with this write.
    await store.operators.change(
        known.operator.name,
        lambda one: msgspec.structs.replace(one, password_hash=stored),
        Attribution(known.operator.name, OWN),
    )
    # Their cookies are void already; this removes them from the list that people look at.
    ended = [one.id for one in await store.console_sessions.list() if one.operator == known.operator.name]
    await store.console_sessions.end(ended)
    # With the new password: the session of this browser must not end with the others.
    cookie = await context.session_auth.admit(
        store, known.operator.name, new, context.address, context.now_ms, context.agent
    )
    operator = await store.operators.get(known.operator.name)
    if operator is not None:
        # The message of the next page is signed for the new cookie.
        context.known = known._replace(operator=operator, cookie=cookie)
    said = context.gettext(N_("Your password is changed, and your other sessions have ended."))
    response = done(context, f"{PREFIX}password", said)
    response.set_cookie(
        SESSION_COOKIE, cookie, max_age=SESSION_TTL_MS // 1_000, path=PREFIX, httponly=True, samesite="Strict",
        secure=context.is_https,
    )  # fmt: skip
    return response


def _new(context: ConsoleContext, form: Form) -> str:
    new = _typed(context, form, "new")
    try:
        new_password(new)
    except InvalidInput:
        text = N_("must be at least %(least)s printable characters, and at most %(most)s bytes")
        problem = context.gettext(text, least=MIN_PASSWORD_CHARS, most=MAX_PASSWORD_BYTES)
        raise InvalidInput("new", problem) from None
    # After the rules: a password that is refused need not be typed twice.
    if new != _typed(context, form, "again"):
        raise InvalidInput("again", context.gettext(N_("differs from the new password")))
    return new


def _typed(context: ConsoleContext, form: Form, name: str) -> str:
    try:
        return form.text(name) or ""
    except InvalidInput:
        raise InvalidInput(name, context.gettext(N_("can't be read"))) from None


def _password_page(context: ConsoleContext, status: int = 200, problems: dict[str, str] | None = None) -> web.Response:
    return page(context, "password.html", status, problems=problems or {}, least=MIN_PASSWORD_CHARS)


async def show_sessions(context: ConsoleContext) -> web.Response:
    """The list, the one with the latest request first."""
    away, found = "", []
    try:
        found = await _reached(context)
    except StoreUnavailable as fault:
        away = str(fault)
    return page(
        context, "sessions.html", sessions=found, sees_all=_sees_all(context), own=context.operator.session, away=away
    )


async def end_session(context: ConsoleContext) -> web.Response:
    """A form with the id of a session; one that has ended meanwhile is no error."""
    form = await context.sent()
    session = form.text("session")
    if not session or len(session) > MAX_SESSION_CHARS:
        raise InvalidInput("session", "must be the id of a session")
    # By the list that this operator sees: an id of another's session ends nothing.
    reached = {one.id for one in await _reached(context)}
    because = Attribution(context.operator.operator.name, "")
    # Also for none: the answer must not tell whether another's session has this id.
    await context.deps.store.console_sessions.end([session] if session in reached else [], because)
    return see_other(f"{PREFIX}sessions")


def _sees_all(context: ConsoleContext) -> bool:
    operator = context.operator.operator
    return may(operator.role, "admin") and operator.apps is None


async def _reached(context: ConsoleContext) -> list[ConsoleSession]:
    found = await context.deps.store.console_sessions.list()
    name = context.operator.operator.name
    return found if _sees_all(context) else [one for one in found if one.operator == name]
