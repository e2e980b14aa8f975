"""One way for every act of an operator: a form, a page that asks first if it destroys something, and a message.

    form = await context.sent()                       # the form's token; the router has checked the role
    if not is_confirmed(form):
        return ask_first(context, form, title=…, effects=[…], button=…, back=place)
    …the write, for `attribution(context, form)`…
    return done(context, place, "…")                  # 303 to the page, which shows the message for a minute

The page that asks is the answer to the form, and holds its fields; its button sends the same form again, now confirmed. So
nothing is stored in between, and no script is needed. The message is in the address and is signed, so that a link can't forge
one.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from urllib.parse import quote_from_bytes

from aiohttp import web

from gate.console import PREFIX
from gate.console.id_format import query_of
from gate.console.languages import N_
from gate.console.pages import SAID_FIELD, page, see_other
from gate.console.request_context import FORM_FIELD, ConsoleContext
from gate.console.session_cookie import sealed_message
from gate.core.reasons import audit_text
from gate.http.forms import Form
from gate.store.app_writes import AppWrites
from gate.store.writer import Attribution, WriteReceipt

CONFIRMED = "confirmed"
REASON = "reason"
# Of a message in an address: browsers and proxies take 8,000 bytes of one, and a Chinese character takes up to 9.
MAX_SAID_CHARS = 500


def attribution(context: ConsoleContext, form: Form) -> Attribution:
    """The operator, and the reason in the form's field `reason`; for the audit. `InvalidInput` if the reason is too long."""
    return Attribution(context.operator.operator.name, audit_text(form.text(REASON) or "", REASON))


def is_confirmed(form: Form) -> bool:
    """Whether the form comes from the page that asks."""
    return form.has(CONFIRMED)


def ask_first(
    context: ConsoleContext, form: Form, *, title: str, effects: Sequence[str], button: str, back: str
) -> web.Response:
    """The page that asks: `title` is the question, `effects` what will happen, `button` the verb, `back` where Cancel leads.

    Texts are in the operator's language. They may hold ids: templates escape them.
    """
    # Repeats included: a form with many ids holds the same field many times.
    kept = [
        (name, value.decode("utf-8", "replace"))
        for name, values in form.fields.items()
        if name not in (FORM_FIELD, CONFIRMED)
        for value in values
    ]
    audit_text(form.text(REASON) or "", REASON)  # what can't be done is refused before it is asked
    return page(
        context,
        "confirm.html",
        question=title,
        effects=effects,
        button=button,
        back=back,
        kept=kept,
        confirmed=CONFIRMED,
        # The act's own address with its query, as it was asked for: never decoded, so it can't be another.
        action=context.request.raw_path,
        reason=form.text(REASON) or "",
    )


def done(context: ConsoleContext, place: str, text: str) -> web.Response:
    """Lead to a page of this console, which says what was done. `place` is `/console/…`, with or without a query."""
    # Cut before it is signed: what is shown must be what was signed.
    known, said = context.operator, text if len(text) <= MAX_SAID_CHARS else text[: MAX_SAID_CHARS - 1] + "…"
    # Bound to this operator's cookie: in another browser the address says nothing.
    message = sealed_message(known.operator, known.cookie, said, context.deps.now_ms())
    # 303: a reload of the page must not send the form again.
    return see_other(f"{place}{'&' if '?' in place else '?'}{query_of(**{SAID_FIELD: message})}")


def writes(context: ConsoleContext, form: Form) -> AppWrites:
    """The writes to the App's facts, for the audit by this operator, with the form's reason."""
    return AppWrites(context.deps.store, context.app, context.now_ms, attribution(context, form))


async def how_far(context: ConsoleContext, written: WriteReceipt | None) -> str:
    """Wait until a write is effective; a sentence for the message if not every node has it yet, else ""."""
    # Nothing had to be written, for example a registration of who is registered.
    if written is None:
        return ""
    effect = await context.effective(written)
    if effect.applied == "all":
        return ""
    # This node's own checks are right already; a router on another may see it a moment later.
    if effect.applied == "node":
        return " " + context.gettext(N_("This node applies it; other nodes have not confirmed it yet."))
    return " " + context.gettext(N_("It is written, and takes effect as soon as the nodes have read it."))


def back_to_check(context: ConsoleContext, form: Form) -> str:
    """The address of the check that the form stood on, by its fields `check_from` and `check_to` (base64); "" for none."""
    if not form.has("check_from"):
        return ""
    try:
        pair = [b64decode(form.one(name) or b"", validate=True) for name in ("check_from", "check_to")]
    # A link that was cut: the act is done all the same, and leads to its usual page.
    except binascii.Error:
        return ""
    sender, recipient = map(quote_from_bytes, pair)
    return f"{PREFIX}{context.app_key}/check?from={sender}&to={recipient}"
