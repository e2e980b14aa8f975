"""Ids as pages spell them: in text, in links and in forms.

A User's id is any 1 to 64 bytes. In text it is shown in one line with what can't be printed escaped; in a link it is
percent-encoded bytes. A browser's text field holds UTF-8 without line breaks, so next to each field is a choice of the format
of its id:

    user=…&user_as=text      the bytes themselves; also where `user_as` is missing, as in links
    user=…&user_as=base64    for ids that a text field can't hold

Pure. Called by views and templates.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, quote_from_bytes

from gate.core.ids import user_id
from gate.core.shown import shown_id
from gate.errors import InvalidInput
from gate.http.forms import Form

TEXT, BASE64 = "text", "base64"
# Ids that a question about many names.
NAMED_IN_QUESTION = 10


class Named(NamedTuple):
    """One id in all its spellings."""

    text: str
    query: str
    field: str
    written_as: str

    @property
    def base64(self) -> str:
        """In base64, where text can't show it exactly; else empty."""
        return self.field if self.written_as == BASE64 else ""


class Asked(NamedTuple):
    """What a field for an id held: the id, or what is wrong with it; and what to fill the field with again."""

    raw: bytes | None
    problem: str
    field: str
    written_as: str


def named(raw: bytes) -> Named:
    """The spellings of an id."""
    # Escaped, so it may differ from the id: then the field takes base64.
    text = shown_id(raw)
    # Blanks around it would be lost to a reader, and to a browser's copy and paste.
    is_plain = text.encode() == raw and text == text.strip()
    field = (text, TEXT) if is_plain else (b64encode(raw).decode(), BASE64)
    return Named(text, quote_from_bytes(raw, safe=""), *field)


def asked(form: Form, name: str) -> Asked:
    """The id in this field of a query."""
    try:
        given, written_as = form.one(name), form.text(f"{name}_as") or TEXT
        if given is None:
            return Asked(None, "", "", written_as if written_as == BASE64 else TEXT)
        if written_as == TEXT:
            # As bytes: a link may name an id that is no UTF-8.
            raw = user_id(given, name)
            # Not the text itself: what can't stand in a text field comes back as base64.
            return Asked(raw, "", *named(raw)[2:])
        if written_as != BASE64:
            raise InvalidInput(f"{name}_as", "must be text or base64")
        # Shown again in the field, whatever it was.
        text = given.decode("ascii", "backslashreplace")
        return _from_base64(text, name)
    except InvalidInput as fault:
        return Asked(None, fault.problem, "", TEXT)


def _from_base64(text: str, name: str) -> Asked:
    try:
        # Padding is often lost where base64 is copied from, and the URL's alphabet is as good.
        raw = b64decode(text.translate(_URLSAFE).rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
        return Asked(user_id(raw, name), "", text, BASE64)
    except InvalidInput as fault:
        return Asked(None, fault.problem, text, BASE64)
    except ValueError:
        return Asked(None, "is not base64", text, BASE64)


def query_of(**fields: str) -> str:
    """A query string, of text."""
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())


_URLSAFE = str.maketrans("-_", "+/")


def named_in(ids: Sequence[bytes], more: str) -> str:
    """The first ids in text, for a question about many; `more` is the text for the others, with `%(many)s`."""
    shown = ", ".join(named(one).text for one in ids[:NAMED_IN_QUESTION])
    left = len(ids) - NAMED_IN_QUESTION
    return f"{shown} {more % {'many': left}}" if left > 0 else shown
