"""Signing in with an operator's name and password, and out.

A person who followed a link gets to its page after signing in: `next` in the address, and only a path of this console is
followed. The form's token is the HMAC of a second cookie, since no operator is known yet: another site can neither read nor
set that cookie, so it can't sign a browser in as another operator.
"""

from __future__ import annotations

import hmac
import re
import secrets

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import problem_text
from gate.console.id_format import query_of
from gate.console.languages import N_
from gate.console.pages import html, in_languages, see_other
from gate.console.request_context import FORM_FIELD, SESSION_COOKIE, ConsoleContext, refuse_foreign_origin
from gate.console.session_cookie import is_same
from gate.errors import InvalidInput, StoreUnavailable
from gate.http.auth import watched
from gate.http.errors import CredentialsWrong, TriedTooOften
from gate.store.console_sessions import SESSION_TTL_MS

FORM_COOKIE = "gate-console-form"
FORM_TTL_S = 3_600
_NO_OPERATOR = N_("%(name)s is signed in at the proxy, but is no operator here.")
_TOO_OLD = N_("The page was too old, or the browser keeps no cookies. Try again.")
_TRIED_TOO_OFTEN = N_("There were too many wrong tries: try again in %(wait)s.")
_AWAY = N_(
    "Redis can not be reached, so sign-in is not possible now. Checks go on from each node's Replica; "
    "gate explain A B on a node answers too."
)
# In the address after a sign-out: then the page waits for a click, although a proxy names an operator.
LEFT = "left"
MAX_NEXT_CHARS = 2_000

# A page of the deployment or of an App: nothing in it could be read as another host or another scheme.
_OURS = re.compile(
    rf"{PREFIX}([A-Za-z0-9_-]{{1,32}}/)?(?!sign-)[a-z][a-z/-]{{0,39}}(\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?"
)
_FORM_COOKIE = re.compile(r"[A-Za-z0-9_-]{22,43}")


async def show(context: ConsoleContext) -> web.Response:
    """The form; or straight to the page, if a trusted proxy names an operator and the person did not just sign out."""
    following, asserted = _next_of(context), context.asserted
    # Else a sign-out would sign in again with its redirect.
    if asserted is None or LEFT in context.request.query:
        return _form(context, following, 200)
    try:
        cookie = await context.session_auth.admit_asserted(
            context.deps.store, asserted, context.address, context.now_ms, context.agent
        )
    except StoreUnavailable as fault:
        return _away(context, following, fault)
    sign_ins = context.session_auth.sign_ins
    if cookie is None:
        await sign_ins.refused(context.request, context.deps, "console", asserted.name)
        return _form(
            context,
            following,
            403,
            context.gettext(_NO_OPERATOR, name=asserted.name),
        )
    await sign_ins.accepted(context.request, context.deps, "console", asserted.name)
    return _entered(context, following, cookie)


async def enter(context: ConsoleContext) -> web.Response:
    """Sign in. Wrong guesses are counted and slowed down together with those of the API."""
    refuse_foreign_origin(context.request, context.deps)
    # `next` is checked again here: the form's address is as forgeable as a link.
    form, following = await context.form(), _next_of(context)
    cookie = context.request.cookies.get(FORM_COOKIE, "")
    # A cookie of another form would be signed by us as well: its token is any cookie's HMAC.
    if not _FORM_COOKIE.fullmatch(cookie) or not is_same(form.text(FORM_FIELD) or "", _token_of(cookie)):
        return _form(context, following, 403, context.gettext(_TOO_OLD))
    try:
        name, password = form.text("name") or "", form.text("password") or ""
    except InvalidInput as fault:
        problem = problem_text(fault, context.language)
        wrong = context.gettext("Your %(field)s %(problem)s.", field=fault.parameter, problem=problem)
        return _form(context, following, 400, wrong)
    try:
        # Counts failures in metrics and in the log, with the address.
        with watched(context.request, context.deps, "console"):
            cookie = await context.session_auth.admit(
                context.deps.store, name, password, context.address, context.now_ms, context.agent
            )
    except CredentialsWrong:
        # The name is in the entry only if an operator has it: people type passwords into the wrong field.
        await context.session_auth.sign_ins.refused(context.request, context.deps, "console", name)
        return _form(context, following, 401, context.gettext("The operator's name or password is wrong."), name)
    except TriedTooOften as fault:
        wait = context.language.duration(fault.retry_after_s * 1_000)
        refused = _form(context, following, 429, context.gettext(_TRIED_TOO_OFTEN, wait=wait), name)
        refused.headers["Retry-After"] = str(fault.retry_after_s)
        return refused
    except StoreUnavailable as fault:
        return _away(context, following, fault, name)
    await context.session_auth.sign_ins.accepted(context.request, context.deps, "console", name)
    return _entered(context, following, cookie)


async def leave(context: ConsoleContext) -> web.Response:
    """Sign out: the browser deletes its session cookie and no node accepts it; with Redis away, only this node refuses it."""
    refuse_foreign_origin(context.request, context.deps)
    cookie = context.request.cookies.get(SESSION_COOKIE, "")
    try:
        context.known = await context.session_auth.known(context.deps.store, cookie, context.now_ms, context.asserted)
    except StoreUnavailable:
        context.known = None  # this node remembers no check of it, so there is no session to protect
    if context.known is not None:
        await context.sent()
        await context.session_auth.sign_out(context.deps.store, cookie)
    response = see_other(f"{PREFIX}sign-in" + (f"?{LEFT}" if context.asserted is not None else ""))
    # Also without a known session: then the cookie is of no use to anybody.
    response.del_cookie(SESSION_COOKIE, path=PREFIX)
    return response


def sign_in_place(request: web.Request) -> str:
    """The address of the sign-in page, which leads back to the requested page afterwards."""
    wanted = request.raw_path
    return f"{PREFIX}sign-in" + (f"?{query_of(next=wanted)}" if request.method == "GET" and _is_ours(wanted) else "")


def _next_of(context: ConsoleContext) -> str:
    """The page to go to, or "" for none."""
    try:
        wanted = context.query().text("next") or ""
    except InvalidInput:
        return ""
    return wanted if _is_ours(wanted) else ""


def _is_ours(wanted: str) -> bool:
    return len(wanted) <= MAX_NEXT_CHARS and _OURS.fullmatch(wanted) is not None


def _entered(context: ConsoleContext, following: str, cookie: str) -> web.Response:
    response = see_other(following or PREFIX)
    _set_cookie(context, response, SESSION_COOKIE, cookie, SESSION_TTL_MS // 1_000)
    # Its token opened one sign-in; the next form has another.
    response.del_cookie(FORM_COOKIE, path=PREFIX)
    return response


def _away(context: ConsoleContext, following: str, fault: StoreUnavailable, name: str = "") -> web.Response:
    refused = _form(context, following, 503, context.gettext(_AWAY), name)
    refused.headers["Retry-After"] = str(fault.retry_after_s)
    return refused


def _form(context: ConsoleContext, following: str, status: int, problem: str = "", name: str = "") -> web.Response:
    # A new one with each form: no answer of this page is kept, so no form is older than its cookie.
    cookie = secrets.token_urlsafe(24)
    query = f"?{query_of(next=following)}" if following else ""
    response = html(
        context.language,
        "sign_in.html",
        status,
        problem=problem,
        name=name,
        following=following,
        query=query,
        form_token=_token_of(cookie),
        asserted=context.asserted,
        in_languages=in_languages(f"{PREFIX}sign-in{query}"),
    )
    _set_cookie(context, response, FORM_COOKIE, cookie, FORM_TTL_S)
    return response


def _token_of(cookie: str) -> str:
    # The key is no secret: what matters is that another site can't read or set the cookie (double submit).
    return hmac.digest(cookie.encode(), b"gate console sign-in", "sha256").hex()


def _set_cookie(context: ConsoleContext, response: web.Response, name: str, value: str, max_age_s: int) -> None:
    response.set_cookie(
        name, value, max_age=max_age_s, path=PREFIX, httponly=True, samesite="Strict", secure=context.is_https
    )
