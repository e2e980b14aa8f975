"""The deactivated Users of an App, the latest first: a search among them, and forms that deactivate and reactivate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import Failed, id_value, problem_text, sent_ids, typed_ids
from gate.console.acts import ask_first, done, how_far, is_confirmed, writes
from gate.console.id_format import Named, named, named_in, query_of
from gate.console.languages import N_
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.errors import InvalidInput, Refused, StoreUnavailable
from gate.http.fields import place_of, place_token
from gate.http.forms import Form
from gate.http.user_search import matching_in
from gate.store.places import Place

ROWS = 50


class GoneRow(NamedTuple):
    """One deactivated User. `value` is its id for a form; `from_ms` is when it may be reactivated."""

    user: Named
    value: str
    since_ms: int
    from_ms: int


async def show(context: ConsoleContext) -> web.Response:
    """`?match=&token=` → the page."""
    return await _page(context, None)


async def act(context: ConsoleContext) -> web.Response:
    """A form that deactivates (`users`) or reactivates (`id`), asked first."""
    form = await context.sent()
    is_reactivation = not form.has("users")
    try:
        return await (_reactivate(context, form) if is_reactivation else _deactivate(context, form))
    except (InvalidInput, Refused) as fault:
        name = "reactivate" if is_reactivation else "deactivate"
        return await _page(context, Failed.of(name, form, fault, context.language))


async def _deactivate(context: ConsoleContext, form: Form) -> web.Response:
    text, users = context.gettext, typed_ids(context, form)
    if not is_confirmed(form):
        effects = [
            text(N_("They can't send, receive or connect from now on. Their Sessions are closed.")),
            text(N_("Their profiles, Bans, Mutes and lists are erased within seconds. Nothing brings them back.")),
            named_in(users, text(N_("and %(many)s more"))),
        ]
        title = context.ngettext("Deactivate %(num)s User?", "Deactivate %(num)s Users?", len(users))
        return _ask(context, form, title, effects, text(N_("Deactivate")))
    operation = await writes(context, form).deactivate(users)
    said = context.ngettext("%(num)s User is deactivated.", "%(num)s Users are deactivated.", len(users))
    return done(context, _place(context), said + await how_far(context, operation.written))


async def _reactivate(context: ConsoleContext, form: Form) -> web.Response:
    text, users = context.gettext, sent_ids(context, form)
    if not is_confirmed(form):
        effects = [
            text(N_("The ids can be registered and used again, without what they had.")),
            text(N_("Old Tokens stay revoked.")),
            named_in(users, text(N_("and %(many)s more"))),
        ]
        title = context.ngettext("Reactivate %(num)s User?", "Reactivate %(num)s Users?", len(users))
        return _ask(context, form, title, effects, text(N_("Reactivate")))
    operation = await writes(context, form).reactivate(users)
    said = context.ngettext("%(num)s User is reactivated.", "%(num)s Users are reactivated.", len(users))
    return done(context, _place(context), said + await how_far(context, operation.written))


def _ask(context: ConsoleContext, form: Form, title: str, effects: Sequence[str], button: str) -> web.Response:
    return ask_first(context, form, title=title, effects=effects, button=button, back=_place(context))


async def _page(context: ConsoleContext, failed: Failed | None) -> web.Response:
    query, values = context.query(), dict[str, Any]()
    part, token = query.text("match") or "", query.text("token")
    try:
        values = await (_search(context, part, token) if part else _latest(context, token))
    except InvalidInput as fault:
        values = {"search_problem": problem_text(fault, context.language)}
    except StoreUnavailable as fault:
        values = {"away": str(fault)}
    fixed = {"rows": None, "following": "", "matches": None, "search_problem": ""}
    return page(
        context,
        "deactivated.html",
        400 if failed is not None or "search_problem" in values else 200,
        part=part,
        first=_place(context, match=part) if token else "",
        failed=failed,
        filled=lambda name, field, default="": failed.value(field) if failed and failed.name == name else default,
        wrong=lambda name, field: failed.problem if failed and (failed.name, failed.field) == (name, field) else "",
        **fixed | values,
    )


async def _latest(context: ConsoleContext, token: str | None) -> dict[str, Any]:
    place = None if token is None else place_of(token)
    found = await context.deps.store.deactivation.behind(context.app_key, place, ROWS + 1)
    last = Place(found[ROWS - 1].since_ms, found[ROWS - 1].user) if len(found) > ROWS else None
    return {
        "rows": [_row(context, one.user, one.since_ms) for one in found[:ROWS]],
        "following": _place(context, token=place_token(last)) if last else "",
    }


async def _search(context: ConsoleContext, part: str, token: str | None) -> dict[str, Any]:
    matches = await matching_in(context.deps, context.app_key, "gone", part, token, ROWS)
    return {
        "rows": [_row(context, one.member, one.score) for one in matches.rows],
        "matches": matches,
        "following": _place(context, match=part, token=matches.following) if matches.following else "",
    }


def _row(context: ConsoleContext, user: bytes, since_ms: int) -> GoneRow:
    return GoneRow(named(user), id_value(user), since_ms, since_ms + context.app.reactivate_after_s * 1_000)


def _place(context: ConsoleContext, **fields: str) -> str:
    here = f"{PREFIX}{context.app_key}/deactivated"
    given = {field: value for field, value in fields.items() if value}
    return f"{here}?{query_of(**given)}" if given else here
