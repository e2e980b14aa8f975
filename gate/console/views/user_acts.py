"""The acts on one User. Each is a form on the User's page, and comes back to it; what destroys or restrains asks first.

An act is a `UserAct`: its question, if it asks, and its write. They are carried out in one way: the form is read, the question
is asked, the write is made, and a form that is refused is shown again as it was sent. Acts that differ only in their texts and
in the one write are rows of `_ASKED`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import Failed, end_of, profile_of, require_registrable
from gate.console.acts import ask_first, attribution, back_to_check, done, how_far, is_confirmed, writes
from gate.console.id_format import named
from gate.console.languages import N_
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.console.views.user import user_page
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput, Refused, UserUnknown
from gate.http.forms import Form
from gate.presence.kick_command import kick_user
from gate.store.app_writes import AppWrites, PenaltyKind
from gate.store.writer import WriteReceipt

# In the place of a Session's id.
ALL = "all"


class OnUser(NamedTuple):
    """One act that was sent: by whom, the form, and the User."""

    context: ConsoleContext
    form: Form
    user: bytes

    @property
    def place(self) -> str:
        """The address of the User's page, or of the check that the form came from."""
        # Percent-encoded bytes: an id may hold `&`, or be no UTF-8.
        own = f"{PREFIX}{self.context.app_key}/user?user={named(self.user).query}"
        return back_to_check(self.context, self.form) or own

    def text(self, text: str, **values: object) -> str:
        """A text about the User, in the operator's language."""
        # In every text's values: those without `%(delay)s` ignore it.
        delay = self.context.language.duration(self.context.app.reactivate_after_s * 1_000)
        return self.context.gettext(text, user=named(self.user).text, delay=delay, **values)


class Question(NamedTuple):
    """What is asked before an act: the question, what will happen, and the verb of the button. Keys of the translations."""

    title: str
    effects: Sequence[str]
    button: str
    moment: str = ""
    """For texts that name an end."""


@dataclass(frozen=True)
class UserAct:
    """A view: one act on one User. `name` is that of its form."""

    name: str
    write: Callable[[OnUser], Awaitable[str | web.Response]]
    """Does it, and says what was done, or answers by itself."""
    question: Callable[[OnUser], Question] | None = None

    async def __call__(self, context: ConsoleContext) -> web.Response:
        """`?user=`, and the form → the question, the User's page, or that page with what is wrong."""
        # First of all: without the form's token nothing else of the request is looked at.
        form = await context.sent()
        act = OnUser(context, form, context.query().raw_user("user"))
        try:
            if self.question is not None and not is_confirmed(form):
                title, effects, button, moment = self.question(act)
                shown = [act.text(effect, moment=moment) for effect in effects]
                return ask_first(
                    context, form, title=act.text(title), effects=shown, button=context.gettext(button), back=act.place
                )
            said = await self.write(act)
        # What a person can correct comes back as the page; Redis away and the like have a page of their own.
        except (InvalidInput, Refused, UserUnknown) as fault:
            return await user_page(context, act.user, Failed.of(self.name, form, fault, context.language))
        return done(context, act.place, said) if isinstance(said, str) else said


def _restrain(penalty: PenaltyKind) -> UserAct:
    # Both texts stand where they are used, so that the catalog's script finds them.
    is_mute = penalty == "mute"
    title = (N_("Ban %(user)s?"), N_("Mute %(user)s?"))[is_mute]
    for_now = (
        N_("%(user)s can't send or connect until %(moment)s. Its Sessions are closed now."),
        N_("%(user)s can connect and read, but not send, until %(moment)s."),
    )[is_mute]
    for_good = (
        N_("%(user)s can't send or connect until the Ban is lifted. Its Sessions are closed now."),
        N_("%(user)s can connect and read, but not send, until the Mute is lifted."),
    )[is_mute]
    replaces = (N_("An earlier Ban is replaced."), N_("An earlier Mute is replaced."))[is_mute]
    verb = (N_("Ban"), N_("Mute"))[is_mute]
    said = (
        (N_("%(user)s is banned."), N_("%(user)s is banned until %(moment)s.")),
        (N_("%(user)s is muted."), N_("%(user)s is muted until %(moment)s.")),
    )[is_mute]

    def question(act: OnUser) -> Question:
        until_ms = end_of(act.context, act.form)
        effect = for_good if until_ms >= FOREVER_MS else for_now
        return Question(title, [effect, replaces], verb, act.context.language.moment(until_ms))

    async def write(act: OnUser) -> str:
        # Read again once confirmed: a duration counts from the answer, not from the question.
        until_ms = end_of(act.context, act.form)
        imposed = await writes(act.context, act.form).impose(penalty, [act.user], until_ms)
        words = act.text(said[until_ms < FOREVER_MS], moment=act.context.language.moment(until_ms))
        return words + await how_far(act.context, imposed.written)

    return UserAct(penalty, write, question)


async def _register(act: OnUser) -> str:
    # Of registration only: an id with other characters can be banned, but never be registered.
    require_registrable(act.context, act.user)
    name, portrait = profile_of(act.context, act.form)
    written = await writes(act.context, act.form).register_by_operator(act.user, name or None, portrait or None)
    return act.text(N_("%(user)s is registered.")) + await how_far(act.context, written)


async def _profile(act: OnUser) -> str:
    name, portrait = profile_of(act.context, act.form)
    await writes(act.context, act.form).change_profile(act.user, name, portrait)
    # No `how_far`: a profile is no fact of a Verdict, and no node waits for it.
    return act.text(N_("The name and portrait of %(user)s are changed."))


_MINT = Question(
    N_("Mint a Token for %(user)s?"),
    [
        N_("Who has the Token can connect as %(user)s."),
        N_("It is shown once, on the next page, and is not stored."),
        N_("The User is registered if it is not yet."),
    ],
    N_("Mint"),
)


async def _token(act: OnUser) -> web.Response:
    require_registrable(act.context, act.user)
    minted = await writes(act.context, act.form).mint_by_operator(act.user)
    # The answer is the Token itself: a node that refuses it for a moment more is no news then.
    await how_far(act.context, minted.written)
    return page(act.context, "token.html", user=named(act.user), minted=minted)


def _ask_to_switch(act: OnUser) -> Question:
    if act.form.text("on") == "yes":
        effect = N_("From now on only Users on the Whitelist of %(user)s can message it.")
        return Question(N_("Switch the Whitelist of %(user)s on?"), [effect], N_("Switch on"))
    effect = N_("The Whitelist of %(user)s is not asked any more; its Blacklist is.")
    return Question(N_("Switch the Whitelist of %(user)s off?"), [effect], N_("Switch off"))


async def _switch(act: OnUser) -> str:
    on = act.form.text("on") == "yes"
    written = await writes(act.context, act.form).switch([act.user], on)
    said = N_("The Whitelist of %(user)s is on.") if on else N_("The Whitelist of %(user)s is off.")
    return act.text(said) + await how_far(act.context, written)


async def _deactivated(of_app: AppWrites, user: bytes) -> WriteReceipt:
    return (await of_app.deactivate([user])).written


async def _reactivated(of_app: AppWrites, user: bytes) -> WriteReceipt:
    return (await of_app.reactivate([user])).written


class _Asked(NamedTuple):
    """An act that is one write: what is asked, what is said of it, and the write."""

    question: Question
    said: str
    write: Callable[[AppWrites, bytes], Awaitable[WriteReceipt]]


# By the name of the form. That Users are deleted in development Apps only, the store holds for all of its callers.
_ASKED = {
    "unban": _Asked(
        Question(
            N_("Lift the Ban of %(user)s?"),
            [N_("%(user)s can connect and send again at once, unless another rule denies it.")],
            N_("Lift the Ban"),
        ),
        N_("%(user)s is not banned any more."),
        lambda of_app, user: of_app.lift("ban", [user]),
    ),
    "unmute": _Asked(
        Question(
            N_("Lift the Mute of %(user)s?"),
            [N_("%(user)s can send again at once, unless another rule denies it.")],
            N_("Lift the Mute"),
        ),
        N_("%(user)s is not muted any more."),
        lambda of_app, user: of_app.lift("mute", [user]),
    ),
    "revoke": _Asked(
        Question(
            N_("Revoke all Tokens of %(user)s?"),
            [
                N_("Every Token of %(user)s that was minted until now is refused from now on, for good."),
                N_("Its Sessions are closed. Its app must get a new Token from your server."),
            ],
            N_("Revoke"),
        ),
        N_("All Tokens of %(user)s are revoked."),
        lambda of_app, user: of_app.revoke_tokens([user]),
    ),
    "deactivate": _Asked(
        Question(
            N_("Deactivate %(user)s?"),
            [
                N_("%(user)s can't send, receive or connect from now on. Its Sessions are closed."),
                N_("Its profile, Ban, Mute and lists are erased within seconds. Nothing brings them back."),
                N_("The id can be reactivated after %(delay)s, without what it had."),
            ],
            N_("Deactivate"),
        ),
        N_("%(user)s is deactivated."),
        _deactivated,
    ),
    "reactivate": _Asked(
        Question(
            N_("Reactivate %(user)s?"),
            [
                N_("The id %(user)s can be registered and used again, without what it had."),
                N_("Its old Tokens stay revoked."),
            ],
            N_("Reactivate"),
        ),
        N_("%(user)s is reactivated."),
        _reactivated,
    ),
    "delete": _Asked(
        Question(
            N_("Delete %(user)s?"),
            [
                N_("Everything of %(user)s is deleted: its registration, profile, Ban, Mute and lists."),
                N_("Its Tokens are refused. Nothing brings any of it back."),
            ],
            N_("Delete"),
        ),
        N_("%(user)s is deleted."),
        lambda of_app, user: of_app.erase([user]),
    ),
}


def _asked(name: str) -> UserAct:
    question, said, write = _ASKED[name]

    async def written(act: OnUser) -> str:
        receipt = await write(writes(act.context, act.form), act.user)
        return act.text(said) + await how_far(act.context, receipt)

    return UserAct(name, written, lambda _: question)


async def kick(context: ConsoleContext) -> web.Response:
    """`?user=`, and a form with a Session's id or `all` → back to the User's page, which says how many were closed.

    Not a Ban: the User may connect again at once. The audit names the operator.
    """
    form = await context.sent()
    act = OnUser(context, form, context.query().raw_user("user"))
    # The reason is checked before Sessions are closed: a kick that can't be recorded is not carried out.
    session, because = form.text("session"), attribution(context, form)
    if session is None:
        raise InvalidInput("session", f"must be a Session's id, or {ALL}")
    only, deps = None if session == ALL else session, context.deps
    many = await kick_user(deps.store.audit, deps.presence, context.app_key, act.user, because, session=only)
    if many:
        said = context.ngettext("%(num)s Session closed.", "%(num)s Sessions closed.", many)
        said += " " + context.gettext("The User may connect again at once; a Ban is what keeps it out.")
    else:
        said = context.gettext("There was no such Session any more; nothing was closed.")
    return done(context, act.place, said)


ban, mute = _restrain("ban"), _restrain("mute")
unban, unmute, revoke = _asked("unban"), _asked("unmute"), _asked("revoke")
deactivate, reactivate, delete = _asked("deactivate"), _asked("reactivate"), _asked("delete")
register, profile = UserAct("register", _register), UserAct("profile", _profile)
token, switch = UserAct("token", _token, lambda _: _MINT), UserAct("switch", _switch, _ask_to_switch)
