"""Operators: the accounts, their roles and the Apps that they are limited to. For an admin of all Apps.

The last admin stays: the store refuses its removal and its demotion. A new password is on one page, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import Failed
from gate.console.acts import ask_first, attribution, done, is_confirmed
from gate.console.id_format import query_of
from gate.console.languages import N_
from gate.console.pages import page, see_other
from gate.console.request_context import ConsoleContext
from gate.console.views.app_keys import secret_page
from gate.core.operators import ROLES, Operator, OperatorRole, operator_apps, operator_name
from gate.errors import AppUnknown, InvalidInput, NotFound, OperatorExists, OperatorUnknown, Refused, StoreUnavailable
from gate.http.forms import Form
from gate.store.new_credentials import new_app_secret, new_operator_password
from gate.store.passwords import hash_password

LIST = f"{PREFIX}operators"
ROLE_MEANINGS: dict[OperatorRole, str] = {
    "viewer": N_("sees everything here"),
    "operator": N_("also imposes and lifts, kicks, and changes settings that shape verdicts"),
    "admin": N_("also changes credentials and webhooks; of all Apps: also Apps and operators"),
}


async def show(context: ConsoleContext) -> web.Response:
    """All accounts, and the form for a new one."""
    return await _list(context)


async def show_one(context: ConsoleContext) -> web.Response:
    """`?name=`: one account, with what can be done to it; without one, the list."""
    name = context.query().text("name")
    return await _one(context, name) if name else see_other(LIST)


async def add(context: ConsoleContext) -> web.Response:
    """A new account. Its password is generated, and the answer shows it; a proxy's account has none."""
    form = await context.sent()
    # Made for a proxy's account as well and then dropped: cheaper than a second path through the form.
    signs_in_by_proxy, password = form.text("signs_in") == "proxy", new_operator_password()
    try:
        name, role, apps = operator_name(form.text("name") or ""), _role(form), await _apps(context, form)
        # Of an account without a password, what would be its hash is the random key of its cookies.
        # argon2 is slow on purpose: in a thread, or every check of this process waits.
        stored = new_app_secret() if signs_in_by_proxy else await asyncio.to_thread(hash_password, password)
        made = Operator(
            name=name, role=role, password_hash=stored, created_at_ms=context.now_ms, apps=apps, sso=signs_in_by_proxy
        )
        await context.deps.store.operators.add(made, attribution(context, form))
    except (InvalidInput, OperatorExists) as fault:
        failed = Failed.of("add", form, fault, context.language)
        # The core calls the field `operator`; the form calls it `name`.
        is_name = isinstance(fault, OperatorExists) or failed.field == "operator"
        return await _list(context, 400, failed._replace(field="name") if is_name else failed)
    # The password is not in the message of a redirect: that stands in the address.
    title = context.gettext(N_("The operator %(name)s is added"), name=name)
    if signs_in_by_proxy:
        return done(context, _place(name), f"{title}.")
    return await secret_page(context, title, password, None, place=_place(name))


async def change(context: ConsoleContext) -> web.Response:
    """A form with a role and Apps: what the account may do from now on."""
    form = await context.sent()
    name = form.text("name") or ""
    try:
        role, apps = _role(form), await _apps(context, form)
        # An account is the key of its cookies, so this ends its sessions without another write.
        await _change(context, form, name, lambda one: msgspec.structs.replace(one, role=role, apps=apps))
    except (InvalidInput, Refused) as fault:
        return await _one(context, name, 400, Failed.of("change", form, fault, context.language))
    said = context.gettext(N_("%(name)s is changed. Its sessions have ended."), name=name)
    return done(context, _place(name), said)


async def reset(context: ConsoleContext) -> web.Response:
    """A new password for an account, which the answer shows; the old one ends."""
    form = await context.sent()
    name = form.text("name") or ""
    # Looked up before the question, so that a name without an account is refused at once.
    one, password = await _found(context, name), new_operator_password()
    # Its own password needs the present one: else a browser left open is enough to take the account over.
    if one.sso or name == context.operator.operator.name:
        reason = N_("A proxy signs it in.") if one.sso else N_("Change your own password on the page Password.")
        return await _one(context, name, 409, Failed("reset", form, "", context.gettext(reason)))
    if not is_confirmed(form):
        effects = [
            context.gettext(N_("The password of %(name)s ends at once, and a new one is shown."), name=name),
            context.gettext(N_("Its sessions of the console end.")),
        ]
        return _ask(context, form, name, N_("Reset the password?"), effects, N_("Reset"))
    stored = await asyncio.to_thread(hash_password, password)
    await _change(context, form, name, lambda one: msgspec.structs.replace(one, password_hash=stored))
    title = context.gettext(N_("The operator %(name)s has a new password"), name=name)
    return await secret_page(context, title, password, None, place=_place(name))


async def remove(context: ConsoleContext) -> web.Response:
    """The account ends."""
    form = await context.sent()
    name = form.text("name") or ""
    one = await _found(context, name)
    if not is_confirmed(form):
        effects = [
            context.gettext(
                N_("The account %(name)s, %(role)s, ends at once."), name=name, role=context.gettext(one.role)
            ),
            context.gettext(N_("Its sessions of the console end, and programs that use its password are refused.")),
        ]
        return _ask(context, form, name, N_("Remove the operator?"), effects, N_("Remove"))
    try:
        await context.deps.store.operators.remove(name, attribution(context, form))
    except Refused as fault:
        return await _one(context, name, 409, Failed.of("remove", form, fault, context.language))
    return done(context, LIST, context.gettext(N_("The operator %(name)s is removed."), name=name))


async def _list(context: ConsoleContext, status: int = 200, failed: Failed | None = None) -> web.Response:
    found: Sequence[Operator] = ()
    away = ""
    try:
        found = await context.deps.store.operators.list()
    except StoreUnavailable as fault:
        away = str(fault)
    return page(
        context,
        "operators.html",
        status,
        operators=[(one, _place(one.name)) for one in found],
        roles=_roles(context),
        failed=failed,
        away=away,
    )


async def _one(context: ConsoleContext, name: str, status: int = 200, failed: Failed | None = None) -> web.Response:
    one = await _found(context, name)
    apps = "\n".join(one.apps or ())
    return page(
        context,
        "operator.html",
        status,
        one=one,
        is_own=name == context.operator.operator.name,
        role=failed.value("role") if failed and failed.name == "change" else one.role,
        apps=failed.value("apps") if failed and failed.name == "change" else apps,
        roles=_roles(context),
        failed=failed,
    )


async def _found(context: ConsoleContext, name: str) -> Operator:
    """`OperatorUnknown` is about the account that the page names, not about who asks."""
    try:
        # A name that no operator can have is as unknown as one that none has.
        one = await context.deps.store.operators.get(name)
    except InvalidInput:
        one = None
    if one is None:
        raise NotFound(f"there is no operator {name[:80]!r}")
    return one


async def _change(context: ConsoleContext, form: Form, name: str, mutate: Callable[[Operator], Operator]) -> Operator:
    try:
        return await context.deps.store.operators.change(name, mutate, attribution(context, form))
    # As a 404: the router takes `OperatorUnknown` for the person who asks.
    except OperatorUnknown as fault:
        raise NotFound(str(fault)) from None


async def _apps(context: ConsoleContext, form: Form) -> tuple[str, ...] | None:
    """The Apps that the form limits the account to; None for all."""
    # Browsers end lines with CR and LF; `splitlines` takes both.
    lines = [line.strip() for line in (form.text("apps") or "").splitlines()]
    keys = [line for line in lines if line]
    if not keys:
        return None
    try:
        apps = operator_apps(keys)
    except InvalidInput as fault:
        raise InvalidInput("apps", fault.problem) from None
    try:
        # Each is a read of Redis; `operator_apps` bounds their number.
        for key in apps:
            await context.deps.store.apps.get(key)
    except AppUnknown:
        raise InvalidInput("apps", context.gettext(N_("there is no App %(key)s"), key=key)) from None
    return apps


def _role(form: Form) -> OperatorRole:
    role = form.text("role") or ""
    if role not in ROLES:
        raise InvalidInput("role", f"must be one of {', '.join(ROLES)}")
    return role


def _roles(context: ConsoleContext) -> list[tuple[str, str]]:
    text = context.gettext
    return [(role, f"{text(role)}: {text(ROLE_MEANINGS[role])}") for role in ROLES]


def _ask(
    context: ConsoleContext, form: Form, name: str, title: str, effects: Sequence[str], button: str
) -> web.Response:
    text = context.gettext
    return ask_first(context, form, title=text(title), effects=effects, button=text(button), back=_place(name))


def _place(name: str) -> str:
    return f"{LIST}/one?{query_of(name=name)}"
