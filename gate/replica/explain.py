"""The full answer to "may A message B?": every rule with the facts that it used.

Unlike the Verdict, an explanation continues past the first rule that denies, since a person who lifts that one wants to know
what comes next. It is a plain nested value, identical on RESP, HTTP, the CLI and the console.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gate.core.decide import RULES, FactsView, Question, ask, decide, whitelist_is_on
from gate.core.ids import shown
from gate.core.model import FOREVER_MS, ListKind
from gate.core.verdict import ALLOWED, Word

Explained = dict[str, Any]


def explain(view: FactsView, sender: bytes, recipient: bytes, now_ms: int) -> Explained:
    """The verdict of the rules, also in shadow mode: there `answered` is what a check answers. Moments in ms or None.

    `{verdict, allowed, shadow, answered, until, sender, recipient, exempt, rules: [{rule, denies, until, facts}]}`, and the
    App's own failure policy: `on_stale`, `max_staleness_ms`.
    """
    verdict = decide(view, sender, recipient, now_ms)
    question = ask(view, sender, recipient, now_ms)
    rules: list[Explained] = []
    for word, rule in RULES:
        answer = rule(question)
        rules.append(
            {
                "rule": word,
                "denies": answer.denies,
                "until": _moment(answer.holds_until_ms),
                "facts": _FACTS[word](question),
            }
        )
    return {
        "verdict": verdict.word,
        "allowed": verdict.allowed,
        "until": verdict.until_ms,
        "shadow": view.app.shadow,
        "answered": ALLOWED if view.app.shadow else verdict.word,
        "on_stale": view.app.on_stale,
        "max_staleness_ms": view.app.max_staleness_ms,
        # The moment of the answer, for comparing it with `until`.
        "now": now_ms,
        "app": view.app.key,
        "from": shown(sender),
        "to": shown(recipient),
        "exempt": question.exempt,
        "rules": rules,
    }


def _moment(until_ms: int) -> int | None:
    # Both 0 (never was) and FOREVER_MS (never ends) have no moment.
    return until_ms if 0 < until_ms < FOREVER_MS else None


def _end(until_ms: int) -> int | str | None:
    """An end for people: a moment, "never" for a fact without end, None for a fact that does not exist."""
    return "never" if until_ms >= FOREVER_MS else until_ms or None


def _list_facts(question: Question, kind: ListKind) -> Explained:
    facts = question.recipient_facts
    return {
        "whitelist_on": whitelist_is_on(question.view.app, facts),
        "app_whitelists": question.view.app.whitelists,
        "list_policy": question.view.app.list_policy,
        "size": facts.blacklist_size if kind is ListKind.BLACKLIST else facts.whitelist_size,
        "entry_until": _end(question.view.entry_until_ms(kind, question.recipient, question.sender)),
    }


_FACTS: dict[Word, Callable[[Question], Explained]] = {
    "sender-unknown": lambda q: {
        "registered": q.sender_facts.registered,
        "require_registered": q.view.app.require_registered,
    },
    "sender-deactivated": lambda q: {"deactivated": q.sender_facts.deactivated},
    "sender-banned": lambda q: {"banned_until": _end(q.sender_facts.banned_until_ms)},
    "sender-muted": lambda q: {"muted_until": _end(q.sender_facts.muted_until_ms)},
    "recipient-unknown": lambda q: {
        "registered": q.recipient_facts.registered,
        "require_registered": q.view.app.require_registered,
    },
    "recipient-deactivated": lambda q: {"deactivated": q.recipient_facts.deactivated},
    "not-whitelisted": lambda q: _list_facts(q, ListKind.WHITELIST),
    "blacklisted": lambda q: _list_facts(q, ListKind.BLACKLIST),
}
