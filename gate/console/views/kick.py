"""Kick a User: close one Session or all. Not a Ban: the User may connect again at once. The audit names the operator."""

from __future__ import annotations

from aiohttp import web

from gate.console import PREFIX
from gate.console.id_format import named, query_of
from gate.console.pages import see_other
from gate.console.request_context import ConsoleContext
from gate.console.session_cookie import sealed_message
from gate.core.reasons import audit_text
from gate.errors import InvalidInput
from gate.presence.kick_command import kick_user
from gate.store.writer import Attribution

ALL = "all"


async def kick(context: ConsoleContext) -> web.Response:
    """`?user=`, and a form with a Session's id or `all` → back to the User's page, which says how many were closed."""
    form = await context.sent("operator")
    user = context.query().raw_user("user")
    session, reason = form.text("session"), audit_text(form.text("reason") or "", "reason")
    if session is None:
        raise InvalidInput("session", f"must be a Session's id, or {ALL}")
    known, deps = context.operator, context.deps
    because = Attribution(known.operator.name, reason)
    named_session = None if session == ALL else session
    many = await kick_user(deps.store.audit, deps.presence, context.app_key, user, because, session=named_session)
    said = sealed_message(known.operator, known.cookie, f"{many}-{deps.now_ms()}")
    return see_other(f"{PREFIX}{context.app_key}/user?user={named(user).query}&{query_of(said=said)}")
