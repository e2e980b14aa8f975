"""Rules of registration: a new User's id, name and portrait.

Only registration restricts the characters of an id, as RongCloud's does. A User whose id was never registered, or was imported,
can be banned and blocked whatever its id is. Called by getToken, `/v1/users` and `gate user add`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gate.core.ids import user_id
from gate.errors import InvalidInput

MAX_NAME_CHARS = 64
# RongCloud's documents say 64 characters; its older ones and the SDKs say 128 bytes. A name within either is accepted.
MAX_NAME_BYTES = 128
MAX_PORTRAIT_BYTES = 1_024

_REGISTRABLE = re.compile(rb"[A-Za-z0-9+|=_-]+")


def registrable(value: str | bytes, parameter: str = "userId") -> bytes:
    """Return the id. Raises `InvalidInput`, which names the permitted characters, if it can't be registered."""
    raw = user_id(value, parameter)
    if not _REGISTRABLE.fullmatch(raw):
        shown = raw.decode(errors="backslashreplace")
        raise InvalidInput(parameter, f"must be letters, digits or + | = - _ to be registered, {shown!r} was sent")
    return raw


def profile_mistakes(name: str | None, portrait: str | None) -> Iterator[tuple[str, str]]:
    """Which of a new profile's two members is wrong, and why; None is a member that stays as it is.

    The one check of all sources: RongCloud's API, `/v1`, bulk calls, the command line and imports.
    """
    for member, text in (("name", name), ("portrait", portrait)):
        if text is None:
            continue
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            yield member, "is not UTF-8"
            continue
        if member == "name" and len(text) > MAX_NAME_CHARS and size > MAX_NAME_BYTES:
            yield member, f"must be at most {MAX_NAME_CHARS} characters, {len(text)} were sent"
        if member == "portrait" and size > MAX_PORTRAIT_BYTES:
            yield member, f"must be at most {MAX_PORTRAIT_BYTES} bytes, {size} were sent"
