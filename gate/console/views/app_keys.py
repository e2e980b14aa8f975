"""Credentials of an App: its own secret, and its keys with scopes. A new secret is on one page, once, and nowhere else.

A rotation has two steps: a new secret next to the previous one, then the end of the previous one, which is asked about first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import Failed
from gate.console.acts import ask_first, attribution, done, how_far, is_confirmed
from gate.console.languages import N_
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.core.app_keys import (
    key_name,
    key_scopes,
    named_key,
    with_finished_rotation,
    with_key,
    with_rotated_key,
    without_key,
)
from gate.core.app_secrets import with_new_secret, without_old_secret
from gate.core.model import AppFacts
from gate.core.scopes import SCOPES, Scope
from gate.errors import InvalidInput, Refused, StoreUnavailable
from gate.http.forms import Form
from gate.store.new_credentials import new_app_secret
from gate.store.writer import WriteReceipt

SCOPE_MEANINGS: dict[Scope, str] = {
    "check": N_("ask whether A may message B"),
    "presence": N_("Sessions, who is online, their events"),
    "users": N_("registration, Tokens, Bans, Mutes, lists, imports"),
    "admin": N_("everything that the App may do"),
}


async def show(context: ConsoleContext) -> web.Response:
    """The page."""
    return await _page(context)


async def add(context: ConsoleContext) -> web.Response:
    """A form with a name and scopes: a new key, whose secret the answer shows."""
    form = await context.sent()
    # Made before the write: a form that is sent twice fails at the name, and shows no second secret.
    secret = new_app_secret()
    try:
        name = key_name(form.text("name") or "")
        # A checkbox sends its value once for each tick, so this field alone may repeat.
        scopes = key_scopes(value.decode("utf-8", "replace") for value in form.fields.get("scope", []))
        written = await _update(context, form, lambda facts: with_key(facts, name, scopes, secret, context.now_ms))
    except (InvalidInput, Refused) as fault:
        return await _page(context, 400, Failed.of("add", form, fault, context.language))
    title = context.gettext(N_("The key %(name)s is added"), name=name)
    return await secret_page(context, title, secret, written, place=_place(context))


async def rotate(context: ConsoleContext) -> web.Response:
    """A form with the name of a key: a second secret for it, which the answer shows."""
    form = await context.sent()
    name, secret = form.text("name") or "", new_app_secret()
    try:
        # The change is a function of the App as stored: it runs again if another node changed the App meanwhile.
        written = await _update(context, form, lambda facts: with_rotated_key(facts, name, secret))
    except Refused as fault:
        return await _page(context, 409, Failed.of("keys", form, fault, context.language))
    notes = [context.gettext(N_("Both secrets are accepted. When every program has the new one, finish the rotation."))]
    title = context.gettext(N_("The key %(name)s has a new secret"), name=name)
    return await secret_page(context, title, secret, written, place=_place(context), notes=notes)


async def finish(context: ConsoleContext) -> web.Response:
    """A form with the name of a key: its previous secret ends."""
    effect = N_("The previous secret of the key %(name)s ends. The newest one stays.")
    said = N_("The key %(name)s accepts its newest secret only.")
    return await _asked(context, N_("Finish the rotation?"), effect, N_("Finish"), with_finished_rotation, said)


async def remove(context: ConsoleContext) -> web.Response:
    """A form with the name of a key: the key ends."""
    effect = N_("The key %(name)s (%(scopes)s) is removed, with all of its secrets.")
    said = N_("The key %(name)s is removed.")
    return await _asked(context, N_("Remove the key?"), effect, N_("Remove"), without_key, said)


async def _asked(
    context: ConsoleContext, title: str, effect: str, verb: str, change: Callable[[AppFacts, str], AppFacts], said: str
) -> web.Response:
    """An act on the key that the form names, after a question."""
    form = await context.sent()
    name = form.text("name") or ""
    # Before the question: a name that is no key must not be asked about.
    key = named_key(await _app(context), name)
    if not is_confirmed(form):
        shown = context.gettext(effect, name=name, scopes=", ".join(key.scopes))
        return _ask(context, form, title, [shown, _refused_after(context)], verb)
    written = await _update(context, form, lambda facts: change(facts, name))
    return done(context, _place(context), context.gettext(said, name=name) + await how_far(context, written))


async def rotate_secret(context: ConsoleContext) -> web.Response:
    """A second secret for the App itself, which the answer shows."""
    form = await context.sent()
    secret = new_app_secret()
    try:
        written = await _update(context, form, lambda facts: with_new_secret(facts, secret))
    except Refused as fault:
        return await _page(context, 409, Failed.of("secret", form, fault, context.language))
    notes = [
        context.gettext(N_("Both secrets sign. New Tokens are minted under the new one.")),
        context.gettext(N_("When every program has the new one, end the old one.")),
    ]
    title = context.gettext(N_("The App has a new secret"))
    return await secret_page(context, title, secret, written, place=_place(context), notes=notes)


async def drop_secret(context: ConsoleContext) -> web.Response:
    """A form that says whether Tokens stay valid: the App's old secret ends."""
    form = await context.sent()
    # Anything but "end" keeps Tokens: a form without the field must not sign every User out.
    keeps_tokens = form.text("tokens") != "end"
    if not is_confirmed(form):
        effects = [
            context.gettext(N_("The App's old secret ends. The newest one stays.")),
            context.gettext(
                N_("Tokens that were minted under it stay valid.")
                if keeps_tokens
                else N_("Tokens that were minted under dropped secrets end. Their Users need new ones.")
            ),
            _refused_after(context),
        ]
        return _ask(context, form, N_("End the old secret?"), effects, N_("End it"))
    try:
        written = await _update(context, form, lambda facts: without_old_secret(facts, keep_tokens=keeps_tokens))
    except Refused as fault:
        return await _page(context, 409, Failed.of("secret", form, fault, context.language))
    said = context.gettext(N_("The App accepts its newest secret only."))
    return done(context, _place(context), said + await how_far(context, written))


# No redirect: a secret in an address would be in histories and logs.
async def secret_page(
    context: ConsoleContext,
    title: str,
    secret: str,
    written: WriteReceipt | None,
    *,
    place: str,
    notes: list[str] | None = None,
    above: list[tuple[str, str]] | None = None,
) -> web.Response:
    """The one page that shows a new secret: the answer to the form, which no browser keeps. `above` has what goes with it."""
    return page(
        context,
        "secret.html",
        title=title,
        secret=secret,
        # Written but not everywhere: a program that uses the secret at once may be refused by a node.
        notes=[*(notes or []), (await how_far(context, written)).strip()],
        above=above or [],
        place=place,
    )


async def _page(context: ConsoleContext, status: int = 200, failed: Failed | None = None) -> web.Response:
    # The Replica's copy of the App, which lags; digests and secrets are never shown from it.
    away, facts = "", context.app
    try:
        facts = await _app(context)
    except StoreUnavailable as fault:
        away = str(fault)
    return page(
        context,
        "keys.html",
        status,
        keys=facts.keys,
        secret_count=len(facts.secrets),
        scopes=[(scope, SCOPE_MEANINGS[scope]) for scope in SCOPES],
        chosen=_chosen(failed),
        failed=failed,
        away=away,
    )


def _chosen(failed: Failed | None) -> list[str]:
    """The scopes that are ticked."""
    # The least scope is proposed: who wants more has to say so.
    if failed is None or failed.name != "add":
        return ["check"]
    return [value.decode("utf-8", "replace") for value in failed.form.fields.get("scope", [])]


async def _app(context: ConsoleContext) -> AppFacts:
    return await context.deps.store.apps.get(context.app_key)


async def _update(context: ConsoleContext, form: Form, mutate: Callable[[AppFacts], AppFacts]) -> WriteReceipt:
    because = attribution(context, form)
    updating = context.deps.store.apps.update(context.app_key, mutate, context.now_ms, because.why, because.by)
    return (await updating)[1]


def _ask(context: ConsoleContext, form: Form, title: str, effects: list[str], button: str) -> web.Response:
    texts: dict[str, Any] = {"title": context.gettext(title), "button": context.gettext(button)}
    return ask_first(context, form, effects=effects, back=_place(context), **texts)


def _refused_after(context: ConsoleContext) -> str:
    return context.gettext(N_("Programs that still use it are refused, also on open connections."))


def _place(context: ConsoleContext) -> str:
    return f"{PREFIX}{context.app_key}/keys"
