"""Kick a User: close one Session or all. Not a Ban: the User may connect again at once. The audit names the operator."""

from __future__ import annotations

from aiohttp import web

from gate.console import PREFIX
from gate.console.acts import attribution, done
from gate.console.id_format import named
from gate.console.request_context import ConsoleContext
from gate.errors import InvalidInput
from gate.presence.kick_command import kick_user

ALL = "all"


async def kick(context: ConsoleContext) -> web.Response:
    """`?user=`, and a form with a Session's id or `all` → back to the User's page, which says how many were closed."""
    form = await context.sent()
    user = context.query().raw_user("user")
    session, because = form.text("session"), attribution(context, form)
    if session is None:
        raise InvalidInput("session", f"must be a Session's id, or {ALL}")
    named_session = None if session == ALL else session
    deps = context.deps
    many = await kick_user(deps.store.audit, deps.presence, context.app_key, user, because, session=named_session)
    if many:
        said = context.ngettext("%(num)s Session closed.", "%(num)s Sessions closed.", many)
        said += " " + context.gettext("The User may connect again at once; a Ban is what keeps it out.")
    else:
        said = context.gettext("There was no such Session any more; nothing was closed.")
    return done(context, f"{PREFIX}{context.app_key}/user?user={named(user).query}", said)
