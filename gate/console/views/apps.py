"""Which App to look at: all of them, from Redis; while that is away, those that were there when this process last looked."""

from __future__ import annotations

from aiohttp import web

from gate.console import PREFIX
from gate.console.pages import page, see_other
from gate.console.request_context import AppName, ConsoleContext
from gate.errors import StoreUnavailable


async def show(context: ConsoleContext) -> web.Response:
    """The list; a deployment with a single App goes to it at once."""
    away = ""
    try:
        apps = await context.deps.store.apps.list()
        context.last_read.apps = [AppName(one.key, one.name, one.environment) for one in apps]
    except StoreUnavailable as fault:
        away = str(fault)
    known = [one for one in context.last_read.apps if context.operator.operator.reaches(one.key)]
    if len(known) == 1:
        return see_other(f"{PREFIX}{known[0].key}/online")
    return page(context, "apps.html", apps=known, away=away)
