"""The tables of Users in one state: Bans, Mutes and deactivated Users, each with a search, and forms that add and take off.

A `UserTable` has both views of one page. A form that adds holds `users` (and `ends`), one that takes off holds `id`; both are
asked first. The tables differ in their texts and in what they read and write.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import Failed, end_of, form_values, id_value, problem_text, sent_ids, typed_ids
from gate.console.acts import ask_first, done, how_far, is_confirmed, writes
from gate.console.id_format import Named, named, named_in, query_of
from gate.console.languages import N_, NN_
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.console.user_search import matching_in
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput, Refused, StoreUnavailable
from gate.http.fields import place_of, place_token
from gate.http.forms import Form
from gate.store.app_writes import AppWrites, PenaltyKind
from gate.store.penalties import Penalties, Penalty
from gate.store.places import Place
from gate.store.user_search import Noun
from gate.store.writer import WriteReceipt

ROWS = 50


class TableAct(NamedTuple):
    """One act on many Users: the name of its form, and texts; each is a key of the translations."""

    name: str
    asks: tuple[str, str]
    effects: Sequence[str]
    verb: str
    says: tuple[str, str]


class TableRow(NamedTuple):
    """One User of a table. `value` is its id for a form; a Ban or Mute has an end, a reason and an actor."""

    user: Named
    value: str
    since_ms: int = 0
    until_ms: int = 0
    """Of a deactivation: from when on it may be undone."""
    why: str = ""
    by: str = ""


class TableDone(NamedTuple):
    """What came of an act: the number of Users, those left out since they are deactivated, and the write."""

    many: int
    left_out: int
    written: WriteReceipt | None


@dataclass(frozen=True)
class UserTable(ABC):
    """Both views of one page. `path` is that of the page below the App, and the word of its texts in the template."""

    path: str
    noun: Noun
    """The index that is searched."""
    adds: TableAct
    takes_off: TableAct

    async def show(self, context: ConsoleContext) -> web.Response:
        """`?match=&token=` → the page."""
        return await self._page(context, None)

    async def act(self, context: ConsoleContext) -> web.Response:
        """A form that adds (`users`, `ends`) or takes off (`id`), asked first."""
        form = await context.sent()
        # The page that asks repeats the fields, so the confirmed form decides alike.
        act = self.adds if form.has("users") else self.takes_off
        try:
            return await self._done(context, form, act)
        except (InvalidInput, Refused) as fault:
            return await self._page(context, Failed.of(act.name, form, fault, context.language))

    async def _done(self, context: ConsoleContext, form: Form, act: TableAct) -> web.Response:
        # Typed ids are text in lines; those of rows are base64, since a row may have any bytes.
        users = typed_ids(context, form) if act is self.adds else sent_ids(context, form)
        effects = self.effects(context, form, act)  # a wrong end is refused before anything is asked or written
        if not is_confirmed(form):
            return ask_first(
                context,
                form,
                title=context.ngettext(*act.asks, len(users)),
                effects=[*effects, named_in(users, context.gettext(N_("and %(many)s more")))],
                button=context.gettext(act.verb),
                back=self.place(context),
            )
        # `many` is what was done, which the message counts; the question counted what was sent.
        many, left_out, written = await self.write(writes(context, form), act, users, context, form)
        said = context.ngettext(*act.says, many)
        if left_out:
            words = NN_("%(num)s deactivated User was left out.", "%(num)s deactivated Users were left out.")
            said += " " + context.ngettext(*words, left_out)
        return done(context, self.place(context), said + await how_far(context, written))

    async def _page(self, context: ConsoleContext, failed: Failed | None) -> web.Response:
        query, values = context.query(), dict[str, Any]()
        part, token = query.text("match") or "", query.text("token")
        try:
            # Read also for a refused form: its page shows the table below.
            values = await (self.search(context, part, token) if part else self.latest(context, token))
        except InvalidInput as fault:
            values = {"search_problem": problem_text(fault, context.language)}
        except StoreUnavailable as fault:
            values = {"away": str(fault)}
        fixed = {"rows": None, "total": None, "following": "", "matches": None, "search_problem": ""}
        return page(
            context,
            "user_table.html",
            400 if failed is not None or "search_problem" in values else 200,
            kind=self.path,
            part=part,
            # Only from a later page; a search keeps its part.
            first=self.place(context, match=part) if token else "",
            **form_values(context, failed),
            **fixed | values,
        )

    def place(self, context: ConsoleContext, **fields: str) -> str:
        """The address of the page, with these fields of its query that are not empty."""
        here = f"{PREFIX}{context.app_key}/{self.path}"
        given = {field: value for field, value in fields.items() if value}
        return f"{here}?{query_of(**given)}" if given else here

    def effects(self, context: ConsoleContext, form: Form, act: TableAct) -> Sequence[str]:
        """What will happen, in the operator's language."""
        return [context.gettext(effect) for effect in act.effects]

    @abstractmethod
    async def write(
        self, of_app: AppWrites, act: TableAct, users: Sequence[bytes], context: ConsoleContext, form: Form
    ) -> TableDone:
        """Carry the act out."""

    @abstractmethod
    async def latest(self, context: ConsoleContext, token: str | None) -> dict[str, Any]:
        """The rows of a page, the latest first. Raises `StoreUnavailable`, and `InvalidInput` for a wrong token."""

    @abstractmethod
    async def search(self, context: ConsoleContext, part: str, token: str | None) -> dict[str, Any]:
        """The next rows whose User matches. Raises as `latest`."""


@dataclass(frozen=True)
class PenaltyTable(UserTable):
    """Bans or Mutes: those in force with end, reason and actor."""

    penalty: PenaltyKind

    def effects(self, context: ConsoleContext, form: Form, act: TableAct) -> Sequence[str]:
        """As in the base; those of imposing name the end, and the first is chosen by whether there is one."""
        if act is self.takes_off:
            return super().effects(context, form, act)
        until_ms = end_of(context, form)
        # The first two are one effect, with an end and without.
        for_now, for_good, *others = act.effects
        effect = for_good if until_ms >= FOREVER_MS else for_now
        return [context.gettext(one, moment=context.language.moment(until_ms)) for one in (effect, *others)]

    async def write(
        self, of_app: AppWrites, act: TableAct, users: Sequence[bytes], context: ConsoleContext, form: Form
    ) -> TableDone:
        """Impose or lift."""
        if act is self.takes_off:
            return TableDone(len(users), 0, await of_app.lift(self.penalty, users))
        imposed = await of_app.impose(self.penalty, users, end_of(context, form))
        return TableDone(len(users) - len(imposed.skipped), len(imposed.skipped), imposed.written)

    async def latest(self, context: ConsoleContext, token: str | None) -> dict[str, Any]:
        """The latest end first."""
        place, penalties = None if token is None else place_of(token), self._penalties(context)
        # One row more than the page: whether there is a next one.
        found, total = await asyncio.gather(
            penalties.behind(context.app_key, context.now_ms, place, ROWS + 1),
            penalties.count(context.app_key, context.now_ms),
        )
        following = self.place(context, token=place_token(found[ROWS - 1].place)) if len(found) > ROWS else ""
        return {"rows": [_penalty_row(one) for one in found[:ROWS]], "total": total, "following": following}

    async def search(self, context: ConsoleContext, part: str, token: str | None) -> dict[str, Any]:
        """Those in force among the matches."""
        penalties, key = self._penalties(context), context.app_key
        matches, total = await asyncio.gather(
            matching_in(context.deps, key, self.noun, part, token, ROWS), penalties.count(key, context.now_ms)
        )
        # The exact id is on the first page, whatever its place in the index.
        exact = part.encode("utf-8", "replace")
        ends = {one.member: one.score for one in matches.rows}
        if token is None and exact not in ends:
            (facts,) = await context.deps.store.users.facts(key, [exact])
            ends = {exact: facts.banned_until_ms if self.penalty == "ban" else facts.muted_until_ms} | ends
        # The index keeps what has ended until it is swept.
        in_force = [(user, until_ms) for user, until_ms in ends.items() if until_ms > context.now_ms]
        reasons = await penalties.reasons(key, [user for user, _ in in_force])
        rows = [_penalty_row(Penalty(user, end, *why)) for (user, end), why in zip(in_force, reasons, strict=True)]
        following = self.place(context, match=part, token=matches.following) if matches.following else ""
        return {"rows": rows, "total": total, "matches": matches, "following": following}

    def _penalties(self, context: ConsoleContext) -> Penalties:
        return context.deps.store.bans if self.penalty == "ban" else context.deps.store.mutes


class DeactivatedTable(UserTable):
    """Deactivated Users, with the moment from which on they may be reactivated."""

    async def write(
        self, of_app: AppWrites, act: TableAct, users: Sequence[bytes], context: ConsoleContext, form: Form
    ) -> TableDone:
        """Deactivate or reactivate."""
        operation = await (of_app.deactivate(users) if act is self.adds else of_app.reactivate(users))
        return TableDone(len(users), 0, operation.written)

    async def latest(self, context: ConsoleContext, token: str | None) -> dict[str, Any]:
        """The latest first."""
        place = None if token is None else place_of(token)
        found = await context.deps.store.deactivation.behind(context.app_key, place, ROWS + 1)
        last = Place(found[ROWS - 1].since_ms, found[ROWS - 1].user) if len(found) > ROWS else None
        return {
            "rows": [_deactivated_row(context, one.user, one.since_ms) for one in found[:ROWS]],
            "following": self.place(context, token=place_token(last)) if last else "",
        }

    async def search(self, context: ConsoleContext, part: str, token: str | None) -> dict[str, Any]:
        """Those that match, by Partition."""
        # No count here: the index of deactivated ids has no cheap one by moment.
        matches = await matching_in(context.deps, context.app_key, self.noun, part, token, ROWS)
        return {
            "rows": [_deactivated_row(context, one.member, one.score) for one in matches.rows],
            "matches": matches,
            "following": self.place(context, match=part, token=matches.following) if matches.following else "",
        }


def _penalty_row(one: Penalty) -> TableRow:
    return TableRow(named(one.user), id_value(one.user), until_ms=one.until_ms, why=one.why, by=one.by)


def _deactivated_row(context: ConsoleContext, user: bytes, since_ms: int) -> TableRow:
    # By the Replica's copy of the App; the store decides by its own when the act comes.
    from_ms = since_ms + context.app.reactivate_after_s * 1_000
    return TableRow(named(user), id_value(user), since_ms=since_ms, until_ms=from_ms)


_REPLACES = N_("An earlier one is replaced. Deactivated Users are left out.")

bans = PenaltyTable(
    "bans",
    "bans",
    TableAct(
        "impose",
        NN_("Ban %(num)s User?", "Ban %(num)s Users?"),
        [
            N_("They can't send or connect until %(moment)s. Their Sessions are closed now."),
            N_("They can't send or connect until the Ban is lifted. Their Sessions are closed now."),
            _REPLACES,
        ],
        N_("Ban"),
        NN_("%(num)s User is banned.", "%(num)s Users are banned."),
    ),
    TableAct(
        "lift",
        NN_("Lift the Ban of %(num)s User?", "Lift the Bans of %(num)s Users?"),
        [N_("They can connect and send again at once, unless another rule denies it.")],
        N_("Lift"),
        NN_("%(num)s Ban is lifted.", "%(num)s Bans are lifted."),
    ),
    "ban",
)  # fmt: skip
mutes = PenaltyTable(
    "mutes",
    "mutes",
    TableAct(
        "impose",
        NN_("Mute %(num)s User?", "Mute %(num)s Users?"),
        [
            N_("They can connect and read, but not send, until %(moment)s."),
            N_("They can connect and read, but not send, until the Mute is lifted."),
            _REPLACES,
        ],
        N_("Mute"),
        NN_("%(num)s User is muted.", "%(num)s Users are muted."),
    ),
    TableAct(
        "lift",
        NN_("Lift the Mute of %(num)s User?", "Lift the Mutes of %(num)s Users?"),
        [N_("They can send again at once, unless another rule denies it.")],
        N_("Lift"),
        NN_("%(num)s Mute is lifted.", "%(num)s Mutes are lifted."),
    ),
    "mute",
)  # fmt: skip
deactivated = DeactivatedTable(
    "deactivated",
    "gone",
    TableAct(
        "deactivate",
        NN_("Deactivate %(num)s User?", "Deactivate %(num)s Users?"),
        [
            N_("They can't send, receive or connect from now on. Their Sessions are closed."),
            N_("Their profiles, Bans, Mutes and lists are erased within seconds. Nothing brings them back."),
        ],
        N_("Deactivate"),
        NN_("%(num)s User is deactivated.", "%(num)s Users are deactivated."),
    ),
    TableAct(
        "reactivate",
        NN_("Reactivate %(num)s User?", "Reactivate %(num)s Users?"),
        [
            N_("The ids can be registered and used again, without what they had."),
            N_("Old Tokens stay revoked."),
        ],
        N_("Reactivate"),
        NN_("%(num)s User is reactivated.", "%(num)s Users are reactivated."),
    ),
)  # fmt: skip
