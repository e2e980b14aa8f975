"""May A message B? Answered from this node's Replica with every rule explained; Redis is not asked."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gate.console.id_format import asked, named
from gate.console.labels import RULES, VERDICTS
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.errors import Stale
from gate.replica.reader import explained


async def show(context: ConsoleContext) -> web.Response:
    """`?from=&to=` → the Verdict and each rule; without both, the form alone."""
    query = context.query()
    sender, recipient = asked(query, "from"), asked(query, "to")
    values: dict[str, Any] = {"sender": sender, "recipient": recipient, "explained": None, "too_old": ""}
    if sender.raw is None or recipient.raw is None:
        is_wrong = bool(sender.problem or recipient.problem)
        return page(context, "check.html", 400 if is_wrong else 200, **values)
    try:
        stale_ms = context.deps.check_staleness()
    except Stale as fault:
        return page(context, "check.html", 503, **values | {"too_old": str(fault)})
    with context.deps.replica as snapshot:
        answer = explained(snapshot, context.app_key, sender.raw, recipient.raw)
    return page(
        context,
        "check.html",
        **values
        | {
            "explained": answer,
            "a": named(sender.raw),
            "b": named(recipient.raw),
            "verdicts": VERDICTS,
            "rules": RULES,
            "stale_ms": stale_ms,
            "age": context.language.age(stale_ms),
        },
    )
