"""What may be registered: the rules for a new User's id, name and portrait.

Only registration looks at the characters of an id, as RongCloud's does: a User whose id was never registered, or came by an
import, can be banned and blocked whatever it is called. Called by getToken, `/v1/users` and `gate user add`.
"""

from __future__ import annotations

import re

from gate.core.ids import user_id
from gate.errors import InvalidInput

MAX_NAME_CHARS = 64
MAX_NAME_BYTES = 128
"""RongCloud's documents say 64 characters, its older ones and the SDKs 128 bytes: what satisfies either is taken."""
MAX_PORTRAIT_BYTES = 1_024

_REGISTRABLE = re.compile(rb"[A-Za-z0-9+|=_-]+")


def registrable(value: str | bytes, parameter: str = "userId") -> bytes:
    """The id, if a User may be registered under it; `InvalidInput` says which ids there are."""
    raw = user_id(value, parameter)
    if not _REGISTRABLE.fullmatch(raw):
        shown = raw.decode("utf-8", "backslashreplace")
        raise InvalidInput(parameter, f"must be letters, digits or + | = - _ to be registered, {shown!r} was sent")
    return raw


def name_is_too_long(name: str) -> bool:
    """Whether a name is past both of its limits."""
    return len(name) > MAX_NAME_CHARS and len(name.encode()) > MAX_NAME_BYTES


def portrait_is_too_long(portrait: str) -> bool:
    """Whether a portrait's address is past its limit."""
    return len(portrait.encode()) > MAX_PORTRAIT_BYTES
