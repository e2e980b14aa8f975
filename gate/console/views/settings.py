"""An App's settings: each with its meaning, its default and what it may be. What can't be undone is asked about first."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import problem_text
from gate.console.acts import ask_first, attribution, done, how_far, is_confirmed
from gate.console.languages import N_
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.console.settings_form import GROUPS, sent_changes, setting_fields, shown_value
from gate.core.app_settings import ADMINS_ONLY, title_of, with_settings
from gate.core.model import AppFacts
from gate.core.operators import may
from gate.errors import InvalidInput, StoreUnavailable
from gate.http.errors import RoleInsufficient
from gate.http.forms import Form

# Settings whose change is asked about first, and why.
WARNINGS: dict[str, str] = {
    "shadow": N_("In shadow mode nothing is enforced: every message is allowed, also those of banned Users."),
    "environment": N_("In production Users can not be deleted; in development their number is limited."),
    "audit_days": N_("Older entries of the audit are deleted, if the number is smaller now."),
    "presence_slices": N_("The number of slices can never be lowered again."),
    "require_registered": N_("Messages of and to Users that are not registered are then refused."),
}


async def show(context: ConsoleContext) -> web.Response:
    """The form."""
    try:
        # Of Redis, not of the Replica: what was just saved is shown.
        return _form(context, await context.deps.store.apps.get(context.app_key))
    except StoreUnavailable as fault:
        return _form(context, context.app, away=str(fault))


async def save(context: ConsoleContext) -> web.Response:
    """The form that was sent; shown again with what is wrong next to each field."""
    form = await context.sent()
    # Only to word mistakes and the question; `update` reads again, and changes what it finds then.
    facts = await context.deps.store.apps.get(context.app_key)
    changes, mistakes = sent_changes(form)
    if not mistakes:
        try:
            after = with_settings(facts, changes)
        except InvalidInput as fault:
            mistakes[fault.parameter] = fault
    if mistakes:
        problems = {name: problem_text(mistake, context.language) for name, mistake in mistakes.items()}
        return _form(context, facts, 400, form, problems)
    # The page leaves such fields disabled, which a browser need not obey.
    _refuse_above(context, changes)
    # An update without a change would be a Change of its own, and an audit entry about nothing.
    if not changes:
        return done(context, _place(context), context.gettext(N_("Nothing was changed.")))
    # The page that asks repeats all fields, so what is confirmed is what was shown.
    if not is_confirmed(form) and WARNINGS.keys() & changes:
        return _ask(context, form, facts, after, changes)
    because = attribution(context, form)
    _, written = await context.deps.store.apps.update(
        context.app_key, lambda present: with_settings(present, changes), context.now_ms, because.why, because.by
    )
    names = ", ".join(context.gettext(title_of(name)) for name in changes)
    said = context.gettext(N_("Saved: %(names)s."), names=names) + await how_far(context, written)
    return done(context, _place(context), said)


def _ask(
    context: ConsoleContext, form: Form, before: AppFacts, after: AppFacts, changes: dict[str, Any]
) -> web.Response:
    effects = [
        context.gettext(
            N_("%(name)s: from %(before)s to %(after)s"),
            name=context.gettext(title_of(name)),
            before=shown_value(getattr(before, name), context.language),
            after=shown_value(getattr(after, name), context.language),
        )
        for name in changes
    ]
    effects += [context.gettext(text) for name, text in WARNINGS.items() if name in changes]
    return ask_first(
        context,
        form,
        title=context.gettext(N_("Change these settings of %(app)s?"), app=before.name or before.key),
        effects=effects,
        button=context.gettext(N_("Change")),
        back=_place(context),
    )


def _form(
    context: ConsoleContext,
    facts: AppFacts,
    status: int = 200,
    sent: Form | None = None,
    problems: dict[str, str] | None = None,
    away: str = "",
) -> web.Response:
    # Not `may`: with Redis away the form still shows which fields would be this operator's.
    role = context.operator.operator.role
    fields = setting_fields(facts, role, context.language, sent, problems)
    return page(
        context,
        "settings.html",
        status,
        groups=[(group, name, [one for one in fields if one.group == group]) for group, name in GROUPS.items()],
        reason="" if sent is None else sent.text("reason") or "",
        has_problems=bool(problems),
        away=away,
    )


def _refuse_above(context: ConsoleContext, changes: dict[str, Any]) -> None:
    """`RoleInsufficient` for a change that takes an admin."""
    # By what differs, not by what was sent: an operator's form holds no admin's field, but may be forged.
    above = sorted(changes.keys() & ADMINS_ONLY)
    if above and not may(context.operator.operator.role, "admin"):
        raise RoleInsufficient(f"only an admin may change {', '.join(above)}")


def _place(context: ConsoleContext) -> str:
    return f"{PREFIX}{context.app_key}/settings"
