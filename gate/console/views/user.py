"""One User: its Sessions, with a button for each that kicks; when it was seen and active; its state by this node's Replica."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gate.console.id_format import asked, named
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.core.presence import UserPresence
from gate.errors import StoreUnavailable
from gate.replica.reader import app_of


async def show(context: ConsoleContext) -> web.Response:
    """`?user=` → the page; without one, the form alone."""
    query = context.query()
    field = asked(query, "user")
    if field.raw is None:
        return page(context, "user.html", 400 if field.problem else 200, field=field, user=None)
    with context.deps.replica as snapshot:
        facts = app_of(snapshot, context.app_key).user(field.raw)
    values: dict[str, Any] = {"field": field, "user": named(field.raw), "facts": facts}
    presence: UserPresence | None = None
    try:
        (presence,) = await context.deps.presence.presences(context.app_key, [field.raw])
    except StoreUnavailable as fault:
        values["away"] = str(fault)
    return page(context, "user.html", presence=presence, **values)
