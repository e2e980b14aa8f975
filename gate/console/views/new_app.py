"""A new App. The answer shows its secret, once.

The form proposes a key: a form that is sent twice meets an App that is there already, and makes no second one.
"""

from __future__ import annotations

from typing import cast, get_args

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import Failed
from gate.console.acts import attribution
from gate.console.languages import N_
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.console.views.app_keys import secret_page
from gate.core.app_settings import setting_mistakes
from gate.core.ids import app_key
from gate.core.model import AppFacts, Environment
from gate.errors import AppExists, InvalidInput
from gate.http.forms import Form
from gate.store.new_credentials import new_app_key, new_app_secret


async def show(context: ConsoleContext) -> web.Response:
    """The form."""
    return _page(context)


async def create(context: ConsoleContext) -> web.Response:
    """The new App."""
    form, secret = await context.sent(), new_app_secret()
    try:
        facts, because = _facts(form, secret, context.now_ms), attribution(context, form)
        written = await context.deps.store.apps.create(facts, context.now_ms, because.why, because.by)
    except (InvalidInput, AppExists) as fault:
        failed = Failed.of("create", form, fault, context.language)
        return _page(context, 400, failed._replace(field="key") if isinstance(fault, AppExists) else failed)
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


def _page(context: ConsoleContext, status: int = 200, failed: Failed | None = None) -> web.Response:
    key = new_app_key() if failed is None else failed.value("key")
    environments = [(one, context.gettext(one)) for one in get_args(Environment)]
    return page(context, "new_app.html", status, failed=failed, proposed=key, environments=environments)
