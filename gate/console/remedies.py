"""What would change a denial: for each rule that denies, the acts after which it does not.

Each is a form that sends an act of a User's page, or of a list, and comes back to the check. Pure, but for the texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gate.console.act_fields import NEVER, id_value
from gate.console.id_format import named, query_of
from gate.console.languages import N_
from gate.console.request_context import ConsoleContext
from gate.core.verdict import Word
from gate.replica.explain import Explained

ABOUT_SENDER: Mapping[Word, tuple[str, str]] = {
    "sender-unknown": ("register", N_("Register %(user)s")),
    "sender-deactivated": ("reactivate", N_("Reactivate %(user)s…")),
    "sender-banned": ("unban", N_("Lift the Ban of %(user)s…")),
    "sender-muted": ("unmute", N_("Lift the Mute of %(user)s…")),
}
ABOUT_RECIPIENT: Mapping[Word, tuple[str, str]] = {
    "recipient-unknown": ("register", N_("Register %(user)s")),
    "recipient-deactivated": ("reactivate", N_("Reactivate %(user)s…")),
}
"""The act below `user/`, and its text."""


class Remedy(NamedTuple):
    """One act: the text of its button, the path below `/console/APP/` that the form is sent to, and the form's fields."""

    text: str
    path: str
    fields: Mapping[str, str]


def remedies_of(context: ConsoleContext, explained: Explained, sender: bytes, recipient: bytes) -> list[Remedy]:
    """The acts for every rule that denies, in the order of the rules."""
    text, found = context.gettext, list[Remedy]()
    a, b = named(sender), named(recipient)
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
            if context.app.whitelists == "per-user":
                label = text(N_("Switch the Whitelist of %(user)s off…"), user=b.text)
                found.append(Remedy(label, f"user/switch?user={b.query}", back | {"on": "no"}))
    return found
