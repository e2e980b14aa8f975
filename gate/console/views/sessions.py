"""Sessions of the console: an operator's own; an admin of all Apps sees all. Each has a button that ends it."""

from __future__ import annotations

from aiohttp import web

from gate.console import PREFIX
from gate.console.pages import page, see_other
from gate.console.request_context import ConsoleContext
from gate.core.operators import may
from gate.errors import InvalidInput, StoreUnavailable
from gate.store.console_sessions import ConsoleSession
from gate.store.writer import Attribution

MAX_SESSION_CHARS = 64


async def show(context: ConsoleContext) -> web.Response:
    """The list, the one with the latest request first."""
    away, found = "", []
    try:
        found = await _reached(context)
    except StoreUnavailable as fault:
        away = str(fault)
    return page(
        context, "sessions.html", sessions=found, sees_all=_sees_all(context), own=context.operator.session, away=away
    )


async def end(context: ConsoleContext) -> web.Response:
    """A form with the id of a session; one that has ended meanwhile is no error."""
    form = await context.sent()
    session = form.text("session")
    if not session or len(session) > MAX_SESSION_CHARS:
        raise InvalidInput("session", "must be the id of a session")
    reached = {one.id for one in await _reached(context)}
    because = Attribution(context.operator.operator.name, "")
    await context.deps.store.console_sessions.end([session] if session in reached else [], because)
    return see_other(f"{PREFIX}sessions")


def _sees_all(context: ConsoleContext) -> bool:
    operator = context.operator.operator
    return may(operator.role, "admin") and operator.apps is None


async def _reached(context: ConsoleContext) -> list[ConsoleSession]:
    found = await context.deps.store.console_sessions.list()
    name = context.operator.operator.name
    return found if _sees_all(context) else [one for one in found if one.operator == name]
