"""The Apps: all of them, from Redis; while that is away, those that were there when this process last looked; and a new one.

The answer to a new App shows its secret, once. The form proposes a key: a form that is sent twice meets an App that is there
already, and makes no second one.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, cast, get_args

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import Failed
from gate.console.acts import attribution
from gate.console.languages import N_
from gate.console.pages import page, see_other
from gate.console.request_context import AppName, ConsoleContext
from gate.console.views.app_keys import secret_page
from gate.core.app_settings import setting_mistakes
from gate.core.ids import app_key
from gate.core.model import AppFacts, Environment
from gate.core.presence import Counts
from gate.errors import AppExists, InvalidInput, StoreUnavailable
from gate.http.forms import Form
from gate.store.new_credentials import new_app_key, new_app_secret

# Apps whose Users online are counted for the page: each takes a script or more.
MOST_COUNTED = 50


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
        # All Apps are remembered, and each operator sees its own of them: one list for the process.
        context.last_read.apps = [AppName(one.key, one.name, one.environment) for one in apps]
    except StoreUnavailable as fault:
        away = str(fault)
    # Filtered on the way out, also of what is remembered.
    return [one for one in context.last_read.apps if context.operator.operator.reaches(one.key)], away


async def _listed(context: ConsoleContext, known: list[AppName], away: str) -> web.Response:
    counted = {} if away else await _counted(context, known[:MOST_COUNTED])
    rows = [AppRow(one, counted.get(one.key)) for one in known]
    return page(context, "apps.html", apps=rows, away=away)


async def _counted(context: ConsoleContext, apps: list[AppName]) -> dict[str, Counts]:
    try:
        # At once: one after another, fifty Apps would be fifty trips.
        found = await asyncio.gather(*(context.deps.presence.counts(one.key) for one in apps))
    except StoreUnavailable:  # Presence may have a Redis of its own, which alone is away
        return {}
    return {one.key: counts for one, counts in zip(apps, found, strict=True)}


async def show_new(context: ConsoleContext) -> web.Response:
    """The form for a new App."""
    return _new_page(context)


async def create(context: ConsoleContext) -> web.Response:
    """The new App."""
    # Shown only if the write went through; else it is forgotten.
    form, secret = await context.sent(), new_app_secret()
    try:
        facts, because = _facts(form, secret, context.now_ms), attribution(context, form)
        written = await context.deps.store.apps.create(facts, context.now_ms, because.why, because.by)
    except (InvalidInput, AppExists) as fault:
        failed = Failed.of("create", form, fault, context.language)
        # The store names no field: a taken key is the key's problem.
        return _new_page(context, 400, failed._replace(field="key") if isinstance(fault, AppExists) else failed)
    return await secret_page(
        context,
        context.gettext(N_("The App %(name)s is created"), name=facts.name),
        secret,
        written,
        place=f"{PREFIX}{facts.key}/online",
        above=[(context.gettext(N_("App key")), facts.key)],
    )


def _facts(form: Form, secret: str, now_ms: int) -> AppFacts:
    name, environment = form.text("name") or "", form.text("environment") or "development"
    for mistake in setting_mistakes({"name": name}):
        raise mistake
    if environment not in get_args(Environment):
        raise InvalidInput("environment", f"must be one of {', '.join(get_args(Environment))}")
    try:
        # The page proposes a key; one that was emptied is made up here.
        key = app_key(form.text("key") or new_app_key())
    except InvalidInput as mistake:
        raise InvalidInput("key", mistake.problem) from None
    return AppFacts(
        key=key,
        name=name,
        secrets=(secret,),
        environment=cast("Environment", environment),
        created_at_ms=now_ms,
    )


def _new_page(context: ConsoleContext, status: int = 200, failed: Failed | None = None) -> web.Response:
    # A refused form keeps its key: sent again, it must meet the App that it may have made.
    key = new_app_key() if failed is None else failed.value("key")
    environments = [(one, context.gettext(one)) for one in get_args(Environment)]
    return page(context, "new_app.html", status, failed=failed, proposed=key, environments=environments)
