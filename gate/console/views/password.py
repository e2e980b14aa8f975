"""An operator's own password: a new one needs the present one, and ends all other sessions."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from gate.console import PREFIX
from gate.console.acts import done
from gate.console.languages import N_
from gate.console.pages import page
from gate.console.request_context import SESSION_COOKIE, ConsoleContext
from gate.core.operators import MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARS, new_password
from gate.errors import InvalidInput
from gate.http.auth import watched
from gate.http.errors import CredentialsWrong, TriedTooOften
from gate.http.forms import Form
from gate.store.console_sessions import SESSION_TTL_MS
from gate.store.passwords import hash_password
from gate.store.writer import Attribution

OWN = "the operator's own change"
"""The reason in the audit."""


async def show(context: ConsoleContext) -> web.Response:
    """The form."""
    return _page(context)


async def change(context: ConsoleContext) -> web.Response:
    """Verify the present password as a sign-in does, and store the new one. This browser stays signed in, by a new session."""
    form = await context.sent()
    known, store = context.operator, context.deps.store
    if known.operator.sso:
        return _page(context, 409)
    try:
        new = _new(context, form)
        with watched(context.request, context.deps, "console"):
            old = _typed(context, form, "old")
            await context.session_auth.verify(store, known.operator.name, old, context.address)
    except InvalidInput as fault:
        return _page(context, 400, {fault.parameter: fault.problem})
    except CredentialsWrong:
        return _page(context, 400, {"old": context.gettext(N_("is not the present password"))})
    except TriedTooOften as fault:
        text = N_("was wrong too often; try again in %(seconds)s s")
        refused = _page(context, 429, {"old": context.gettext(text, seconds=fault.retry_after_s)})
        refused.headers["Retry-After"] = str(fault.retry_after_s)
        return refused
    stored = await asyncio.to_thread(hash_password, new)
    # The key of cookies is derived from the stored hash: every cookie of the account ends with this write.
    await store.operators.change(
        known.operator.name,
        lambda one: msgspec.structs.replace(one, password_hash=stored),
        Attribution(known.operator.name, OWN),
    )
    ended = [one.id for one in await store.console_sessions.list() if one.operator == known.operator.name]
    await store.console_sessions.end(ended)
    cookie = await context.session_auth.admit(
        store, known.operator.name, new, context.address, context.now_ms, context.agent
    )
    operator = await store.operators.get(known.operator.name)
    if operator is not None:
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
    if new != _typed(context, form, "again"):
        raise InvalidInput("again", context.gettext(N_("differs from the new password")))
    return new


def _typed(context: ConsoleContext, form: Form, name: str) -> str:
    try:
        return form.text(name) or ""
    except InvalidInput:
        raise InvalidInput(name, context.gettext(N_("can't be read"))) from None


def _page(context: ConsoleContext, status: int = 200, problems: dict[str, str] | None = None) -> web.Response:
    return page(context, "password.html", status, problems=problems or {}, least=MIN_PASSWORD_CHARS)
