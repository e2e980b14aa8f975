"""An App's webhooks: where they lead, how delivery goes on, its dead letters, and a test call."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiohttp import web

from gate.console import PREFIX
from gate.console.acts import ask_first, attribution, done, is_confirmed
from gate.console.id_format import Named, named, query_of
from gate.console.languages import N_, Language
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.errors import InvalidInput, Refused, StoreUnavailable
from gate.http.forms import Form
from gate.store.audit import WebhookAct
from gate.store.dead_letters import act_on_letters
from gate.store.webhook_queue import DeadWebhook
from gate.webhooks.trial import Webhook, may_show_text, try_webhook

PAGE_LETTERS = 50
# Of one form.
MAX_IDS = 100
RESULTS: dict[str, str] = {"0": N_("deactivation"), "1": N_("reactivation")}
WEBHOOKS: dict[Webhook, str] = {"results": N_("Results of deactivation"), "presence": N_("Changes of Presence")}
OUTCOMES = {"delivered": N_("delivered"), "failed": N_("failed"), "dead": N_("given up")}

# Problems are stored in English by the node that met them; these are their forms (`gate.webhooks.posting`).
_ANSWERED = re.compile(r"it answered (\d{3})")
_TOO_LATE = re.compile(r"no answer within ([\d.]+) s")
_UNREACHED = re.compile(r"it could not be reached \((\w+)\)")


class LetterShown(NamedTuple):
    """A row of the dead letters."""

    id: str
    user: Named
    result: str
    operation: str
    attempts: int
    gave_up_ms: int
    problem: str


async def show(context: ConsoleContext) -> web.Response:
    """The page."""
    return await _page(context)


async def replay(context: ConsoleContext) -> web.Response:
    """A form with ids of dead letters, or `all`: they are sent again, each as if it were new."""
    form = await context.sent()
    many = await _act(context, form, "webhooks-replayed")
    said = context.ngettext("%(num)s result is on its way again.", "%(num)s results are on their way again.", many)
    return done(context, _place(context), said)


async def drop(context: ConsoleContext) -> web.Response:
    """A form with ids of dead letters, or `all`: they are deleted, once that is confirmed."""
    form = await context.sent()
    # A replay can be repeated, and asks nothing; what is deleted is gone.
    if not is_confirmed(form):
        return await _ask_drop(context, form)
    many = await _act(context, form, "webhooks-dropped")
    said = context.ngettext("%(num)s dead letter is deleted.", "%(num)s dead letters are deleted.", many)
    return done(context, _place(context), said)


async def try_out(context: ConsoleContext) -> web.Response:
    """A form that names one of the App's webhooks: a signed sample is sent. The page shows what came back."""
    form = await context.sent()
    wanted = form.text("webhook") or ""
    if wanted not in WEBHOOKS:
        raise InvalidInput("webhook", f"must be one of {', '.join(WEBHOOKS)}")
    webhook: Webhook = wanted
    deps, because = context.deps, attribution(context, form)
    app = await deps.store.apps.get(context.app_key)
    # Before the call: a request that left this node is in the audit, whatever becomes of the node.
    ordered = await deps.store.audit.note_webhooks(context.app_key, "webhook-tested", because, {"webhook": webhook})
    try:
        trial = await try_webhook(app, webhook, context.now_ms)
    except Refused:
        value = {"webhook": webhook, "outcome": "the App has no such webhook"}
        await deps.store.audit.note_webhooks(context.app_key, "webhook-tested", because, value, ordered)
        return await _page(context, 409, tried=webhook)
    value = {"webhook": webhook, "outcome": trial.outcome}
    await deps.store.audit.note_webhooks(context.app_key, "webhook-tested", because, value, ordered)
    # A test call must not become a window into this network: only an admin reads what a private address answers.
    shows_text = may_show_text(trial.addresses, context.operator.operator)
    return await _page(
        context,
        tried=webhook,
        trial=trial,
        problem=problem_text(trial.problem, context.language),
        text=trial.text if shows_text else "",
        is_withheld=bool(trial.text) and not shows_text,
    )


def problem_text(problem: str, language: Language) -> str:
    """What was wrong at an attempt, in the operator's language."""
    if match := _ANSWERED.fullmatch(problem):
        return language.gettext(N_("it answered %(status)s"), status=match[1])
    if match := _TOO_LATE.fullmatch(problem):
        return language.gettext(N_("no answer within %(seconds)s s"), seconds=match[1])
    if match := _UNREACHED.fullmatch(problem):
        return language.gettext(N_("it could not be reached (%(fault)s)"), fault=match[1])
    return problem


async def _page(context: ConsoleContext, status: int = 200, **values: Any) -> web.Response:
    app, state, letters, following, away = context.app, None, list[DeadWebhook](), None, ""
    # The answer to a form is the first page; an address of a form has no cursor.
    cursor = None if context.request.method == "POST" else context.query().text("cursor")
    store = context.deps.store
    try:
        # Of Redis rather than of the Replica: a setting that was just saved is shown.
        app = await store.apps.get(context.app_key)
        state = await store.webhooks.state(context.app_key)
        letters, following = await store.webhooks.dead_page(context.app_key, PAGE_LETTERS, cursor)
    except StoreUnavailable as fault:
        away = str(fault)
    last = state.last if state is not None else None
    return page(
        context,
        "webhooks.html",
        status,
        urls={"results": app.webhook_url, "presence": app.presence_webhook_url},
        webhooks=WEBHOOKS,
        state=state,
        last=last,
        last_text=context.gettext(OUTCOMES[last.outcome]) if last else "",
        last_problem=problem_text(last.problem, context.language) if last else "",
        letters=[_shown(dead, context.language) for dead in letters],
        first=_place(context) if cursor else "",
        following=f"{_place(context)}?{query_of(cursor=following)}" if following else "",
        away=away,
        **{"tried": "", "trial": None, "problem": "", "text": "", "is_withheld": False} | values,
    )


def _shown(dead: DeadWebhook, language: Language) -> LetterShown:
    hook = dead.hook
    result, problem = language.gettext(RESULTS[hook.kind]), problem_text(dead.problem, language)
    return LetterShown(dead.id, named(hook.user), result, hook.operation, dead.attempts, dead.gave_up_ms, problem)


async def _ask_drop(context: ConsoleContext, form: Form) -> web.Response:
    if form.has("all"):
        effects = [context.gettext(N_("Every dead letter of this App is deleted."))]
    else:
        # Only those that are the App's: an id of another App must not be named here.
        letters = await context.deps.store.webhooks.dead_letters(context.app_key, _ids(form))
        effects = [
            context.gettext(
                N_("The dead letter about %(user)s (%(result)s, %(operation)s) is deleted."),
                user=shown.user.text,
                result=shown.result,
                operation=shown.operation,
            )
            for shown in (_shown(dead, context.language) for dead in letters)
        ]
        if not letters:
            return done(context, _place(context), context.gettext(N_("There is no such dead letter any more.")))
    effects.append(context.gettext(N_("The App does not receive its result. There is no way back.")))
    return ask_first(
        context,
        form,
        title=context.gettext(N_("Delete dead letters?")),
        effects=effects,
        button=context.gettext(N_("Delete")),
        back=_place(context),
    )


async def _act(context: ConsoleContext, form: Form, kind: WebhookAct) -> int:
    ids = None if form.has("all") else _ids(form)
    return await act_on_letters(context.deps.store, context.app_key, kind, attribution(context, form), ids)


def _ids(form: Form) -> Sequence[str]:
    # What is no ASCII becomes an id that no letter has.
    ids = [value.decode("ascii", "replace") for value in form.fields.get("id", [])]
    if not 1 <= len(ids) <= MAX_IDS:
        raise InvalidInput("id", f"must be given 1 to {MAX_IDS} times")
    return ids


def _place(context: ConsoleContext) -> str:
    return f"{PREFIX}{context.app_key}/webhooks"
