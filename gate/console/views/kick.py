"""Putting a User out: one Session, or all. It is no Ban: the User may connect again at once. The audit names the operator."""

from __future__ import annotations

from aiohttp import web

from gate.console.badge import sealed_message
from gate.console.pages import see_other
from gate.console.site import PREFIX
from gate.console.spelling import named, query_of
from gate.console.visit import Visit
from gate.errors import InvalidInput
from gate.http.v1.fields import check_reason
from gate.presence.kick_orders import kick_user
from gate.store.writing import Because

ALL = "all"


async def kick(visit: Visit) -> web.Response:
    """`?user=`, and a form with a Session's id or `all` → back to the User's page, which says how many were closed."""
    form = await visit.sent("operator")
    user = visit.query().raw_user("user")
    session, reason = form.text("session"), form.text("reason") or ""
    if session is None:
        raise InvalidInput("session", f"must be a Session's id, or {ALL}")
    problems: list[InvalidInput] = []
    check_reason(reason, "", problems)
    for problem in problems:
        raise problem
    known, deps = visit.operator, visit.deps
    because = Because(known.operator.name, reason)
    named_session = None if session == ALL else session
    many = await kick_user(deps.store.audit, deps.presence, visit.app_key, user, because, session=named_session)
    said = sealed_message(known.operator, known.badge, f"{many}-{deps.now_ms()}")
    return see_other(f"{PREFIX}{visit.app_key}/user?user={named(user).query}&{query_of(said=said)}")
