"""The Bans, or the Mutes, of an App: those in force with end, reason and actor; a search; and forms that impose and lift."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import DEFAULT_END, ENDS, Failed, end_of, id_value, problem_text, sent_ids, typed_ids
from gate.console.acts import ask_first, done, how_far, is_confirmed, writes
from gate.console.id_format import Named, named, named_in, query_of
from gate.console.languages import N_
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput, Refused, StoreUnavailable
from gate.http.fields import place_of, place_token
from gate.http.forms import Form
from gate.http.user_search import matching_in
from gate.store.app_writes import PenaltyKind
from gate.store.penalties import Penalties, Penalty

ROWS = 50


class PenaltyTexts(NamedTuple):
    """The texts of one kind; each is a key of the translations."""

    title: str
    ask_one: str
    ask_many: str
    effect: str
    effect_for_good: str
    impose: str
    done_one: str
    done_many: str
    ask_lift_one: str
    ask_lift_many: str
    lift_effect: str
    lift: str
    lifted_one: str
    lifted_many: str


TEXTS: dict[PenaltyKind, PenaltyTexts] = {
    "ban": PenaltyTexts(
        N_("Bans"),
        N_("Ban %(num)s User?"), N_("Ban %(num)s Users?"),
        N_("They can't send or connect until %(moment)s. Their Sessions are closed now."),
        N_("They can't send or connect until the Ban is lifted. Their Sessions are closed now."),
        N_("Ban"),
        N_("%(num)s User is banned."), N_("%(num)s Users are banned."),
        N_("Lift the Ban of %(num)s User?"), N_("Lift the Bans of %(num)s Users?"),
        N_("They can connect and send again at once, unless another rule denies it."),
        N_("Lift"),
        N_("%(num)s Ban is lifted."), N_("%(num)s Bans are lifted."),
    ),
    "mute": PenaltyTexts(
        N_("Mutes"),
        N_("Mute %(num)s User?"), N_("Mute %(num)s Users?"),
        N_("They can connect and read, but not send, until %(moment)s."),
        N_("They can connect and read, but not send, until the Mute is lifted."),
        N_("Mute"),
        N_("%(num)s User is muted."), N_("%(num)s Users are muted."),
        N_("Lift the Mute of %(num)s User?"), N_("Lift the Mutes of %(num)s Users?"),
        N_("They can send again at once, unless another rule denies it."),
        N_("Lift"),
        N_("%(num)s Mute is lifted."), N_("%(num)s Mutes are lifted."),
    ),
}  # fmt: skip


class PenaltyRow(NamedTuple):
    """One Ban or Mute of the table. `value` is the User's id for a form."""

    user: Named
    value: str
    until_ms: int
    why: str
    by: str


@dataclass(frozen=True)
class PenaltyPage:
    """Both views of one kind."""

    penalty: PenaltyKind

    async def show(self, context: ConsoleContext) -> web.Response:
        """`?match=&token=` → the page."""
        return await self._page(context, None)

    async def act(self, context: ConsoleContext) -> web.Response:
        """A form that imposes (`users`, `ends`) or lifts (`id`), asked first."""
        form = await context.sent()
        is_lift = not form.has("users")
        try:
            return await (self._lift(context, form) if is_lift else self._impose(context, form))
        except (InvalidInput, Refused) as fault:
            failed = Failed.of("lift" if is_lift else "impose", form, fault, context.language)
            return await self._page(context, failed)

    async def _impose(self, context: ConsoleContext, form: Form) -> web.Response:
        texts, users, until_ms = TEXTS[self.penalty], typed_ids(context, form), end_of(context, form)
        if not is_confirmed(form):
            effect = texts.effect_for_good if until_ms >= FOREVER_MS else texts.effect
            effects = [
                context.gettext(effect, moment=context.language.moment(until_ms)),
                context.gettext(N_("An earlier one is replaced. Deactivated Users are left out.")),
                named_in(users, context.gettext(N_("and %(many)s more"))),
            ]
            title = context.ngettext(texts.ask_one, texts.ask_many, len(users))
            return self._ask(context, form, title, effects, texts.impose)
        imposed = await writes(context, form).impose(self.penalty, users, until_ms)
        said = context.ngettext(texts.done_one, texts.done_many, len(users) - len(imposed.skipped))
        if imposed.skipped:
            left_out = N_("%(num)s deactivated User was left out."), N_("%(num)s deactivated Users were left out.")
            said += " " + context.ngettext(*left_out, len(imposed.skipped))
        return done(context, self._place(context), said + await how_far(context, imposed.written))

    async def _lift(self, context: ConsoleContext, form: Form) -> web.Response:
        texts, users = TEXTS[self.penalty], sent_ids(context, form)
        if not is_confirmed(form):
            title = context.ngettext(texts.ask_lift_one, texts.ask_lift_many, len(users))
            return self._ask(
                context,
                form,
                title,
                [context.gettext(texts.lift_effect), named_in(users, context.gettext(N_("and %(many)s more")))],
                texts.lift,
            )
        written = await writes(context, form).lift(self.penalty, users)
        said = context.ngettext(texts.lifted_one, texts.lifted_many, len(users))
        return done(context, self._place(context), said + await how_far(context, written))

    def _ask(
        self, context: ConsoleContext, form: Form, title: str, effects: Sequence[str], button: str
    ) -> web.Response:
        back = self._place(context)
        return ask_first(context, form, title=title, effects=effects, button=context.gettext(button), back=back)

    async def _page(self, context: ConsoleContext, failed: Failed | None) -> web.Response:
        query, values = context.query(), dict[str, Any]()
        part, token = query.text("match") or "", query.text("token")
        try:
            values = await (self._search(context, part, token) if part else self._in_force(context, token))
        except InvalidInput as fault:
            values = {"search_problem": problem_text(fault, context.language)}
        except StoreUnavailable as fault:
            values = {"away": str(fault)}
        fixed = {"rows": None, "total": None, "following": "", "matches": None, "search_problem": ""}
        return page(
            context,
            "penalties.html",
            400 if failed is not None or "search_problem" in values else 200,
            penalty=self.penalty,
            title=context.gettext(TEXTS[self.penalty].title),
            part=part,
            first=self._place(context, match=part) if token else "",
            ends=[(value, context.gettext(text)) for value, text in ENDS],
            default_end=DEFAULT_END,
            failed=failed,
            filled=lambda name, field, default="": failed.value(field) if failed and failed.name == name else default,
            wrong=lambda name, field: failed.problem if failed and (failed.name, failed.field) == (name, field) else "",
            **fixed | values,
        )

    async def _in_force(self, context: ConsoleContext, token: str | None) -> dict[str, Any]:
        place, penalties = None if token is None else place_of(token), self._penalties(context)
        found, total = await asyncio.gather(
            penalties.behind(context.app_key, context.now_ms, place, ROWS + 1),
            penalties.count(context.app_key, context.now_ms),
        )
        following = self._place(context, token=place_token(found[ROWS - 1].place)) if len(found) > ROWS else ""
        return {"rows": [_row(one) for one in found[:ROWS]], "total": total, "following": following}

    async def _search(self, context: ConsoleContext, part: str, token: str | None) -> dict[str, Any]:
        penalties, key = self._penalties(context), context.app_key
        matches, total = await asyncio.gather(
            matching_in(context.deps, key, "bans" if self.penalty == "ban" else "mutes", part, token, ROWS),
            penalties.count(key, context.now_ms),
        )
        # The exact id is on the first page, whatever its place in the index.
        exact = part.encode("utf-8", "replace")
        ends = {one.member: one.score for one in matches.rows}
        if token is None and exact not in ends:
            (facts,) = await context.deps.store.users.facts(key, [exact])
            ends = {exact: facts.banned_until_ms if self.penalty == "ban" else facts.muted_until_ms} | ends
        in_force = [(user, until_ms) for user, until_ms in ends.items() if until_ms > context.now_ms]
        reasons = await penalties.reasons(key, [user for user, _ in in_force])
        rows = [_row(Penalty(user, end, *why)) for (user, end), why in zip(in_force, reasons, strict=True)]
        following = self._place(context, match=part, token=matches.following) if matches.following else ""
        return {"rows": rows, "total": total, "matches": matches, "following": following}

    def _penalties(self, context: ConsoleContext) -> Penalties:
        return context.deps.store.bans if self.penalty == "ban" else context.deps.store.mutes

    def _place(self, context: ConsoleContext, **fields: str) -> str:
        here = f"{PREFIX}{context.app_key}/{self.penalty}s"
        given = {field: value for field, value in fields.items() if value}
        return f"{here}?{query_of(**given)}" if given else here


def _row(one: Penalty) -> PenaltyRow:
    return PenaltyRow(named(one.user), id_value(one.user), one.until_ms, one.why, one.by)


bans, mutes = PenaltyPage("ban"), PenaltyPage("mute")
