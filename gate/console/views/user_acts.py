"""The acts on one User. Each is a form on the User's page, and comes back to it; what destroys or restrains asks first.

An act is a `UserAct`: its question, if it asks, and its write. They are carried out in one way: the form is read, the question
is asked, the write is made, and a form that is refused is shown again as it was sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import Failed, end_of, profile_of, require_registrable
from gate.console.acts import ask_first, back_to_check, done, how_far, is_confirmed, writes
from gate.console.id_format import named
from gate.console.languages import N_
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.console.views.user import user_page
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput, Refused, UserUnknown
from gate.http.forms import Form
from gate.store.app_writes import PenaltyKind


class OnUser(NamedTuple):
    """One act that was sent: by whom, the form, and the User."""

    context: ConsoleContext
    form: Form
    user: bytes

    @property
    def shown(self) -> str:
        """The User's id in text."""
        return named(self.user).text

    @property
    def place(self) -> str:
        """The address of the User's page, or of the check that the form came from."""
        own = f"{PREFIX}{self.context.app_key}/user?user={named(self.user).query}"
        return back_to_check(self.context, self.form) or own


class Question(NamedTuple):
    """What is asked before an act: the question, what will happen, and the verb of the button."""

    title: str
    effects: Sequence[str]
    button: str


@dataclass(frozen=True)
class UserAct:
    """A view: one act on one User. `name` is that of its form."""

    name: str
    write: Callable[[OnUser], Awaitable[str | web.Response]]
    """Does it, and says what was done, or answers by itself."""
    question: Callable[[OnUser], Question] | None = None

    async def __call__(self, context: ConsoleContext) -> web.Response:
        """`?user=`, and the form → the question, the User's page, or that page with what is wrong."""
        form = await context.sent()
        act = OnUser(context, form, context.query().raw_user("user"))
        try:
            if self.question is not None and not is_confirmed(form):
                title, effects, button = self.question(act)
                return ask_first(context, form, title=title, effects=effects, button=button, back=act.place)
            said = await self.write(act)
        except (InvalidInput, Refused, UserUnknown) as fault:
            return await user_page(context, act.user, Failed.of(self.name, form, fault, context.language))
        return done(context, act.place, said) if isinstance(said, str) else said


def _restrain(penalty: PenaltyKind) -> UserAct:
    asks = (N_("Ban %(user)s?"), N_("Mute %(user)s?"))[penalty == "mute"]
    for_now = (
        N_("%(user)s can't send or connect until %(moment)s. Its Sessions are closed now."),
        N_("%(user)s can connect and read, but not send, until %(moment)s."),
    )[penalty == "mute"]
    for_good = (
        N_("%(user)s can't send or connect until the Ban is lifted. Its Sessions are closed now."),
        N_("%(user)s can connect and read, but not send, until the Mute is lifted."),
    )[penalty == "mute"]
    replaces = (N_("An earlier Ban is replaced."), N_("An earlier Mute is replaced."))[penalty == "mute"]
    verb = (N_("Ban"), N_("Mute"))[penalty == "mute"]
    said = (
        (N_("%(user)s is banned."), N_("%(user)s is banned until %(moment)s.")),
        (N_("%(user)s is muted."), N_("%(user)s is muted until %(moment)s.")),
    )[penalty == "mute"]

    def question(act: OnUser) -> Question:
        text, until_ms = act.context.gettext, end_of(act.context, act.form)
        effect = for_good if until_ms >= FOREVER_MS else for_now
        moment = act.context.language.moment(until_ms)
        effects = [text(effect, user=act.shown, moment=moment), text(replaces)]
        return Question(text(asks, user=act.shown), effects, text(verb))

    async def write(act: OnUser) -> str:
        until_ms = end_of(act.context, act.form)
        imposed = await writes(act.context, act.form).impose(penalty, [act.user], until_ms)
        moment = act.context.language.moment(until_ms)
        words = act.context.gettext(said[until_ms < FOREVER_MS], user=act.shown, moment=moment)
        return words + await how_far(act.context, imposed.written)

    return UserAct(penalty, write, question)


def _lift(penalty: PenaltyKind) -> UserAct:
    asks = (N_("Lift the Ban of %(user)s?"), N_("Lift the Mute of %(user)s?"))[penalty == "mute"]
    effect = (
        N_("%(user)s can connect and send again at once, unless another rule denies it."),
        N_("%(user)s can send again at once, unless another rule denies it."),
    )[penalty == "mute"]
    verb = (N_("Lift the Ban"), N_("Lift the Mute"))[penalty == "mute"]
    said = (N_("%(user)s is not banned any more."), N_("%(user)s is not muted any more."))[penalty == "mute"]

    def question(act: OnUser) -> Question:
        text = act.context.gettext
        return Question(text(asks, user=act.shown), [text(effect, user=act.shown)], text(verb))

    async def write(act: OnUser) -> str:
        written = await writes(act.context, act.form).lift(penalty, [act.user])
        return act.context.gettext(said, user=act.shown) + await how_far(act.context, written)

    return UserAct(f"un{penalty}", write, question)


async def _register(act: OnUser) -> str:
    require_registrable(act.context, act.user)
    name, portrait = profile_of(act.context, act.form)
    written = await writes(act.context, act.form).register_by_operator(act.user, name or None, portrait or None)
    return act.context.gettext(N_("%(user)s is registered."), user=act.shown) + await how_far(act.context, written)


async def _profile(act: OnUser) -> str:
    name, portrait = profile_of(act.context, act.form)
    await writes(act.context, act.form).change_profile(act.user, name, portrait)
    return act.context.gettext(N_("The name and portrait of %(user)s are changed."), user=act.shown)


def _ask_for_token(act: OnUser) -> Question:
    text = act.context.gettext
    effects = [
        text(N_("Who has the Token can connect as %(user)s."), user=act.shown),
        text(N_("It is shown once, on the next page, and is not stored.")),
        text(N_("The User is registered if it is not yet.")),
    ]
    return Question(text(N_("Mint a Token for %(user)s?"), user=act.shown), effects, text(N_("Mint")))


async def _token(act: OnUser) -> web.Response:
    require_registrable(act.context, act.user)
    minted = await writes(act.context, act.form).mint_by_operator(act.user)
    await how_far(act.context, minted.written)
    return page(act.context, "token.html", user=named(act.user), minted=minted)


def _ask_to_revoke(act: OnUser) -> Question:
    text = act.context.gettext
    effects = [
        text(N_("Every Token of %(user)s that was minted until now is refused from now on, for good."), user=act.shown),
        text(N_("Its Sessions are closed. Its app must get a new Token from your server.")),
    ]
    return Question(text(N_("Revoke all Tokens of %(user)s?"), user=act.shown), effects, text(N_("Revoke")))


async def _revoke(act: OnUser) -> str:
    written = await writes(act.context, act.form).revoke_tokens([act.user])
    words = act.context.gettext(N_("All Tokens of %(user)s are revoked."), user=act.shown)
    return words + await how_far(act.context, written)


def _ask_to_switch(act: OnUser) -> Question:
    text, on = act.context.gettext, act.form.text("on") == "yes"
    if on:
        effect = text(N_("From now on only Users on the Whitelist of %(user)s can message it."), user=act.shown)
        return Question(
            text(N_("Switch the Whitelist of %(user)s on?"), user=act.shown), [effect], text(N_("Switch on"))
        )
    effect = text(N_("The Whitelist of %(user)s is not asked any more; its Blacklist is."), user=act.shown)
    return Question(text(N_("Switch the Whitelist of %(user)s off?"), user=act.shown), [effect], text(N_("Switch off")))


async def _switch(act: OnUser) -> str:
    on = act.form.text("on") == "yes"
    written = await writes(act.context, act.form).switch([act.user], on)
    said = N_("The Whitelist of %(user)s is on.") if on else N_("The Whitelist of %(user)s is off.")
    return act.context.gettext(said, user=act.shown) + await how_far(act.context, written)


def _ask_to_deactivate(act: OnUser) -> Question:
    context, text = act.context, act.context.gettext
    delay = context.language.duration(context.app.reactivate_after_s * 1_000)
    effects = [
        text(N_("%(user)s can't send, receive or connect from now on. Its Sessions are closed."), user=act.shown),
        text(N_("Its profile, Ban, Mute and lists are erased within seconds. Nothing brings them back.")),
        text(N_("The id can be reactivated after %(delay)s, without what it had."), delay=delay),
    ]
    return Question(text(N_("Deactivate %(user)s?"), user=act.shown), effects, text(N_("Deactivate")))


async def _deactivate(act: OnUser) -> str:
    operation = await writes(act.context, act.form).deactivate([act.user])
    words = act.context.gettext(N_("%(user)s is deactivated."), user=act.shown)
    return words + await how_far(act.context, operation.written)


def _ask_to_reactivate(act: OnUser) -> Question:
    text = act.context.gettext
    effects = [
        text(N_("The id %(user)s can be registered and used again, without what it had."), user=act.shown),
        text(N_("Its old Tokens stay revoked.")),
    ]
    return Question(text(N_("Reactivate %(user)s?"), user=act.shown), effects, text(N_("Reactivate")))


async def _reactivate(act: OnUser) -> str:
    operation = await writes(act.context, act.form).reactivate([act.user])
    words = act.context.gettext(N_("%(user)s is reactivated."), user=act.shown)
    return words + await how_far(act.context, operation.written)


def _ask_to_delete(act: OnUser) -> Question:
    text = act.context.gettext
    effects = [
        text(N_("Everything of %(user)s is deleted: its registration, profile, Ban, Mute and lists."), user=act.shown),
        text(N_("Its Tokens are refused. Nothing brings any of it back.")),
    ]
    return Question(text(N_("Delete %(user)s?"), user=act.shown), effects, text(N_("Delete")))


async def _delete(act: OnUser) -> str:
    written = await writes(act.context, act.form).erase([act.user])
    words = act.context.gettext(N_("%(user)s is deleted."), user=act.shown)
    return words + await how_far(act.context, written)


ban, mute = _restrain("ban"), _restrain("mute")
unban, unmute = _lift("ban"), _lift("mute")
register, profile = UserAct("register", _register), UserAct("profile", _profile)
token, revoke = UserAct("token", _token, _ask_for_token), UserAct("revoke", _revoke, _ask_to_revoke)
switch = UserAct("switch", _switch, _ask_to_switch)
deactivate = UserAct("deactivate", _deactivate, _ask_to_deactivate)
reactivate = UserAct("reactivate", _reactivate, _ask_to_reactivate)
delete = UserAct("delete", _delete, _ask_to_delete)
