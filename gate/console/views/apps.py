"""The Apps: all of them, from Redis; while that is away, those that were there when this process last looked."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from aiohttp import web

from gate.console import PREFIX
from gate.console.pages import page, see_other
from gate.console.request_context import AppName, ConsoleContext
from gate.core.presence import Counts
from gate.errors import StoreUnavailable

MOST_COUNTED = 50
"""Apps whose Users online are counted for the page: each takes a script or more."""


class AppRow(NamedTuple):
    """One App, and who is online; None where that was not counted."""

    app: AppName
    online: Counts | None


async def begin(context: ConsoleContext) -> web.Response:
    """The beginning of the console: the one App there is, else the list."""
    known, away = await _known(context)
    return see_other(f"{PREFIX}{known[0].key}/overview") if len(known) == 1 else await _listed(context, known, away)


async def show(context: ConsoleContext) -> web.Response:
    """The list."""
    return await _listed(context, *await _known(context))


async def _known(context: ConsoleContext) -> tuple[list[AppName], str]:
    """The Apps that the operator may see, and why Redis could not be asked, if so."""
    away = ""
    try:
        apps = await context.deps.store.apps.list()
        context.last_read.apps = [AppName(one.key, one.name, one.environment) for one in apps]
    except StoreUnavailable as fault:
        away = str(fault)
    return [one for one in context.last_read.apps if context.operator.operator.reaches(one.key)], away


async def _listed(context: ConsoleContext, known: list[AppName], away: str) -> web.Response:
    counted = {} if away else await _counted(context, known[:MOST_COUNTED])
    rows = [AppRow(one, counted.get(one.key)) for one in known]
    return page(context, "apps.html", apps=rows, away=away)


async def _counted(context: ConsoleContext, apps: list[AppName]) -> dict[str, Counts]:
    try:
        found = await asyncio.gather(*(context.deps.presence.counts(one.key) for one in apps))
    except StoreUnavailable:  # Presence may have a Redis of its own, which alone is away
        return {}
    return {one.key: counts for one, counts in zip(apps, found, strict=True)}
