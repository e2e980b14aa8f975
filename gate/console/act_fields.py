"""What the forms of acts hold: ids, an end, a profile. Each mistake names its field, in the operator's language.

A form that is wrong is shown again, filled in as it was sent: `Failed` is what its page needs for that.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from gate.console.languages import N_, Language
from gate.console.problems import translated
from gate.console.request_context import ConsoleContext
from gate.core.ids import MAX_ID_BYTES
from gate.core.model import FOREVER_MS, LONGEST_DURATION_S
from gate.core.reasons import MAX_REASON_CHARS
from gate.core.registration import MAX_NAME_CHARS, MAX_PORTRAIT_BYTES, profile_mistakes, registrable
from gate.errors import (
    GateError,
    InvalidInput,
    ListFull,
    NotInProduction,
    ReactivationTooEarly,
    TokensHeld,
    UserDeactivated,
    UserLimitReached,
    UserUnknown,
)
from gate.http.forms import Form
from gate.store.user_search import MAX_PART_BYTES

# Of one form: 500 of 64 bytes, percent-encoded, fit in the 64 KiB that a body of the console may have.
MAX_IDS = 500

NEVER, AT = "never", "at"
# Values of the field `ends`: seconds, no end, or the moment in the field `until`.
ENDS: Sequence[tuple[str, str]] = (
    ("600", N_("for 10 minutes")),
    ("3600", N_("for 1 hour")),
    ("86400", N_("for 1 day")),
    ("604800", N_("for 7 days")),
    ("2592000", N_("for 30 days")),
    (NEVER, N_("without end")),
    (AT, N_("until the moment")),
)
DEFAULT_END = "86400"


class Failed(NamedTuple):
    """A form that was refused: which one, what it held, and what is wrong; `field` is "" if no single field is."""

    name: str
    form: Form
    field: str
    problem: str

    @classmethod
    def of(cls, name: str, form: Form, fault: GateError, language: Language) -> Failed:
        """From the fault that an act raised."""
        field = fault.parameter if isinstance(fault, InvalidInput) else ""
        return cls(name, form, field, problem_text(fault, language))

    def value(self, field: str) -> str:
        """What the field held, as text."""
        # The first value: a refused form is only filled in again, whatever was wrong with it.
        values = self.form.fields.get(field, [])
        return values[0].decode("utf-8", "replace") if values else ""


def form_values(context: ConsoleContext, failed: Failed | None, default_end: str = DEFAULT_END) -> dict[str, Any]:
    """What templates with forms of acts ask for: the form that failed, what its fields held, and the choice of an end."""

    def filled(name: str, field: str, default: str = "") -> str:
        return failed.value(field) if failed is not None and failed.name == name else default

    def wrong(name: str, field: str) -> str:
        return failed.problem if failed is not None and (failed.name, failed.field) == (name, field) else ""

    ends = [(value, context.gettext(text)) for value, text in ENDS]
    return {"failed": failed, "filled": filled, "wrong": wrong, "ends": ends, "default_end": default_end}


def problem_text(fault: GateError, language: Language) -> str:
    """What to tell an operator of a fault."""
    text = language.gettext
    if isinstance(fault, InvalidInput):
        # The core counts what was given; here the field's own `maxlength` has said how many fit.
        if fault.parameter == "reason" and "at most" in fault.problem:
            return text(N_("must be at most %(most)s characters"), most=MAX_REASON_CHARS)
        if fault.parameter == "match":
            return text(N_("must be at most %(most)s bytes"), most=MAX_PART_BYTES)
        if fault.parameter == "token":
            return text(N_("The address is of no page of this list: begin at the first page."))
        return translated(fault.problem, language)
    if isinstance(fault, UserDeactivated):
        return text(N_("The User is deactivated, so this can't be done."))
    if isinstance(fault, ListFull):
        return text(
            N_("The list would pass the App's ceiling of %(ceiling)s entries; nothing was added."),
            ceiling=f"{fault.ceiling:,}",
        )
    if isinstance(fault, UserLimitReached):
        return text(N_("The App has reached its limit of %(limit)s registered Users."), limit=f"{fault.limit:,}")
    if isinstance(fault, NotInProduction):
        return text(N_("Users can be deleted in development Apps only. Deactivate the User instead."))
    if isinstance(fault, ReactivationTooEarly):
        if fault.from_ms is None:
            return text(N_("The User is still being erased. Try again in some seconds."))
        # Shown to the second: rounded up, so that the moment shown is late enough.
        return text(N_("The id can be reactivated from %(moment)s on."), moment=language.moment(fault.from_ms + 999))
    if isinstance(fault, TokensHeld):
        return text(
            N_("Its Tokens are revoked until %(moment)s; none can be minted before."),
            moment=language.moment(fault.until_ms + 999),
        )
    if isinstance(fault, UserUnknown):
        return text(N_("No User is registered under this id."))
    return translated(str(fault), language)


def end_of(context: ConsoleContext, form: Form) -> int:
    """The end that the fields `ends` and `until` say, ms; `FOREVER_MS` without one."""
    text, ends = context.gettext, form.text("ends") or DEFAULT_END
    if ends == NEVER:
        return FOREVER_MS
    if ends != AT:
        if ends not in dict(ENDS):
            raise InvalidInput("ends", text(N_("must be one of the choices")))
        return context.now_ms + int(ends) * 1_000
    try:
        # A field of the type datetime-local has no zone; the label says UTC.
        moment = datetime.fromisoformat((form.text("until") or "").removesuffix("Z"))
    except ValueError:
        raise InvalidInput("until", text(N_("must be a moment in UTC, such as 2030-01-31T18:00"))) from None
    until_ms = int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000)
    # Of this node's clock. An end that is past by Redis's would be imposed and void.
    if until_ms <= context.now_ms:
        raise InvalidInput("until", text(N_("must be in the future")))
    if until_ms > context.now_ms + LONGEST_DURATION_S * 1_000:
        raise InvalidInput("until", text(N_("must be within 100 years; choose no end instead")))
    return until_ms


def id_value(raw: bytes) -> str:
    """An id in a hidden field: any bytes, in base64."""
    return b64encode(raw).decode()


def sent_ids(context: ConsoleContext, form: Form, name: str = "id") -> list[bytes]:
    """The ids of fields that `id_value` made: 1 to `MAX_IDS`."""
    values = form.fields.get(name, [])
    if not values:
        raise InvalidInput(name, context.gettext(N_("choose at least one User")))
    try:
        # Without `validate`, what is no base64 would be skipped, and another id be meant.
        ids = [b64decode(value, validate=True) for value in values]
    except binascii.Error:
        raise InvalidInput(name, context.gettext(N_("is not base64"))) from None
    return _checked_ids(context, ids, name)


def typed_ids(context: ConsoleContext, form: Form, name: str = "users") -> list[bytes]:
    """The ids of a text area, one in each line; in base64 where `<name>_as` says so. 1 to `MAX_IDS`, each once."""
    text = context.gettext
    lines = [line.strip() for line in (form.text(name) or "").splitlines()]
    # A blank line at the end of a pasted list is no id.
    lines = [line for line in lines if line]
    if not lines:
        raise InvalidInput(name, text(N_("must hold at least one id")))
    if form.text(f"{name}_as") != "base64":
        return _checked_ids(context, [line.encode() for line in lines], name)
    try:
        return _checked_ids(context, [b64decode(line, validate=True) for line in lines], name)
    except binascii.Error:
        raise InvalidInput(name, text(N_("is not base64"))) from None


def profile_of(context: ConsoleContext, form: Form) -> tuple[str, str]:
    """The fields `name` and `portrait`."""
    name, portrait = form.text("name") or "", form.text("portrait") or ""
    most = {
        "name": N_("must be at most %(most)s characters"),
        "portrait": N_("must be at most %(most)s bytes"),
    }
    # The first is enough: the form shows one problem, at its field.
    for field, _ in profile_mistakes(name, portrait):
        bound = MAX_NAME_CHARS if field == "name" else MAX_PORTRAIT_BYTES
        raise InvalidInput(field, context.gettext(most[field], most=bound))
    return name, portrait


def require_registrable(context: ConsoleContext, user: bytes) -> None:
    """`InvalidInput` for an id that can't be registered."""
    try:
        registrable(user)
    except InvalidInput:
        text = N_("Only an id of letters, digits and + | = - _ can be registered.")
        raise InvalidInput("", context.gettext(text)) from None


def _checked_ids(context: ConsoleContext, ids: Sequence[bytes], name: str) -> list[bytes]:
    # Each once, in order: messages count Users.
    found = list(dict.fromkeys(ids))
    if len(found) > MAX_IDS:
        raise InvalidInput(name, context.gettext(N_("must be at most %(most)s ids"), most=MAX_IDS))
    if not all(1 <= len(one) <= MAX_ID_BYTES for one in found):
        raise InvalidInput(name, context.gettext(N_("each id must be 1 to %(most)s bytes"), most=MAX_ID_BYTES))
    return found
