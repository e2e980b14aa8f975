"""May A message B? Answered from this node's Replica with every rule explained, and with what would change a denial.

Redis is asked for one thing only, why and by whom A was banned or muted; without it the page has everything else.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gate.console.id_format import asked, named
from gate.console.labels import RULES, VERDICTS
from gate.console.pages import page
from gate.console.remedies import remedies_of
from gate.console.request_context import ConsoleContext
from gate.errors import Stale, StoreUnavailable
from gate.replica.reader import app_of, explained


async def show(context: ConsoleContext) -> web.Response:
    """`?from=&to=` → the Verdict and each rule; without both, the form alone."""
    query = context.query()
    sender, recipient = asked(query, "from"), asked(query, "to")
    values: dict[str, Any] = {"sender": sender, "recipient": recipient, "explained": None, "too_old": ""}
    if sender.raw is None or recipient.raw is None:
        is_wrong = bool(sender.problem or recipient.problem)
        return page(context, "check.html", 400 if is_wrong else 200, **values)
    stale_ms = context.deps.replica.stale_ms()
    try:
        with context.deps.replica as snapshot:
            context.deps.refuse_stale_ms(stale_ms, app_of(snapshot, context.app_key).app)
            answer = explained(snapshot, context.app_key, sender.raw, recipient.raw)
    except Stale as fault:
        return page(context, "check.html", 503, **values | {"too_old": str(fault)})
    return page(
        context,
        "check.html",
        **values
        | {
            "explained": answer,
            "remedies": remedies_of(context, answer, sender.raw, recipient.raw),
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
    if verdict not in ("sender-banned", "sender-muted"):
        return "", ""
    try:
        store = context.deps.store
        penalties = store.bans if verdict == "sender-banned" else store.mutes
        (found,) = await penalties.reasons(context.app_key, [sender])
    except StoreUnavailable:
        return "", ""
    return found
