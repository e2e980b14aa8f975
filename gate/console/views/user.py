"""One User: its Sessions, with a button for each that kicks; when it was seen and active; its state by this node's Replica."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gate.console.id_format import asked, named
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.console.session_cookie import opened_message
from gate.core.presence import UserPresence
from gate.errors import InvalidInput, StoreUnavailable
from gate.replica.reader import app_of

SAID_FOR_MS = 60_000
"""How long the address of a page may tell what was done: who loads it later should not read that as news."""


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
    return page(context, "user.html", presence=presence, said=_said(context), **values)


def _said(context: ConsoleContext) -> int | None:
    """How many Sessions the kick that led here closed."""
    try:
        text = context.query().text("said") or ""
    except InvalidInput:
        return None
    message = opened_message(context.operator.operator, context.operator.cookie, text)
    if message is None:
        return None
    many, at_ms = message.split("-")
    return int(many) if context.now_ms - int(at_ms) < SAID_FOR_MS else None
