"""May A message B? Answered from this node's Replica with every rule explained, and with what would change a denial.

Redis is asked for one thing only, why and by whom A was banned or muted; without it the page has everything else. What would
change a denial is, for each rule that denies, the acts after which it does not: each is a form that sends an act of a User's
page, or of a list, and comes back to the check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import web

from gate.console.act_fields import NEVER, id_value, problem_text
from gate.console.id_format import asked, named, query_of
from gate.console.labels import RULES, VERDICTS
from gate.console.languages import N_
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.core.verdict import Word
from gate.errors import Stale, StoreUnavailable
from gate.replica.explain import Explained
from gate.replica.reader import app_of, explained

ABOUT_SENDER: Mapping[Word, tuple[str, str]] = {
    "sender-unknown": ("register", N_("Register %(user)s")),
    "sender-deactivated": ("reactivate", N_("Reactivate %(user)s…")),
    "sender-banned": ("unban", N_("Lift the Ban of %(user)s…")),
    "sender-muted": ("unmute", N_("Lift the Mute of %(user)s…")),
}
# The act below `user/`, and its text.
ABOUT_RECIPIENT: Mapping[Word, tuple[str, str]] = {
    "recipient-unknown": ("register", N_("Register %(user)s")),
    "recipient-deactivated": ("reactivate", N_("Reactivate %(user)s…")),
}


class Remedy(NamedTuple):
    """One act: the text of its button, the path below `/console/APP/` that the form is sent to, and the form's fields."""

    text: str
    path: str
    fields: Mapping[str, str]


async def show(context: ConsoleContext) -> web.Response:
    """`?from=&to=` → the Verdict and each rule; without both, the form alone."""
    query = context.query()
    sender, recipient = asked(query, "from"), asked(query, "to")
    values: dict[str, Any] = {"sender": sender, "recipient": recipient, "explained": None, "too_old": ""}
    # Without both this is the form alone, also when the page is opened first: no error then.
    if sender.raw is None or recipient.raw is None:
        is_wrong = bool(sender.problem or recipient.problem)
        return page(context, "check.html", 400 if is_wrong else 200, **values)
    # Read before the facts: they may only be fresher than what is said of them.
    stale_ms = context.deps.replica.stale_ms()
    try:
        with context.deps.replica as snapshot:
            context.deps.refuse_stale_ms(stale_ms, app_of(snapshot, context.app_key).app)
            answer = explained(snapshot, context.app_key, sender.raw, recipient.raw)
    except Stale as fault:
        return page(context, "check.html", 503, **values | {"too_old": problem_text(fault, context.language)})
    return page(
        context,
        "check.html",
        **values
        | {
            "explained": answer,
            "remedies": remedies_of(context, answer, sender.raw, recipient.raw),
            # An act for one of several rules changes nothing yet; the page says so.
            "denials": sum(rule["denies"] for rule in answer["rules"]),
            "why": await _why(context, answer["verdict"], sender.raw),
            "a": named(sender.raw),
            "b": named(recipient.raw),
            "verdicts": VERDICTS,
            "rules": RULES,
            "stale_ms": stale_ms,
            "age": context.language.age(stale_ms),
        },
    )


async def _why(context: ConsoleContext, verdict: str, sender: bytes) -> tuple[str, str]:
    """The reason and the actor of the sender's Ban or Mute; empty for any other verdict, or while Redis is away."""
    # Of a rule that denies first: reasons of others would be taken for it.
    if verdict not in ("sender-banned", "sender-muted"):
        return "", ""
    try:
        store = context.deps.store
        penalties = store.bans if verdict == "sender-banned" else store.mutes
        (found,) = await penalties.reasons(context.app_key, [sender])
    # The Verdict is the Replica's and stands; only its reason is missing.
    except StoreUnavailable:
        return "", ""
    return found


def remedies_of(context: ConsoleContext, explained: Explained, sender: bytes, recipient: bytes) -> list[Remedy]:
    """The acts for every rule that denies, in the order of the rules."""
    text, found = context.gettext, list[Remedy]()
    a, b = named(sender), named(recipient)
    # In base64: a hidden field holds text, and ids are any bytes.
    back = {"check_from": id_value(sender), "check_to": id_value(recipient)}
    for rule in explained["rules"]:
        word: Word = rule["rule"]
        if not rule["denies"]:
            continue
        for acts, user in ((ABOUT_SENDER, a), (ABOUT_RECIPIENT, b)):
            if word in acts:
                name, label = acts[word]
                found.append(Remedy(text(label, user=user.text), f"user/{name}?user={user.query}", back))
        of_list = f"user/list?user={b.query}&{query_of(kind='blacklist' if word == 'blacklisted' else 'whitelist')}"
        if word == "blacklisted":
            label = text(N_("Take %(sender)s off the Blacklist of %(recipient)s"), sender=a.text, recipient=b.text)
            found.append(Remedy(label, of_list, back | {"id": id_value(sender)}))
        elif word == "not-whitelisted":
            label = text(N_("Put %(sender)s on the Whitelist of %(recipient)s"), sender=a.text, recipient=b.text)
            entry = {"users": id_value(sender), "users_as": "base64", "ends": NEVER}
            found.append(Remedy(label, of_list, back | entry))
            # An App-wide switch wins over the User's own, which then changes nothing.
            if context.app.whitelists == "per-user":
                label = text(N_("Switch the Whitelist of %(user)s off…"), user=b.text)
                found.append(Remedy(label, f"user/switch?user={b.query}", back | {"on": "no"}))
    return found
