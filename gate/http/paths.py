"""Paths that name a User: `/v1/users/{user}` and what lies below it.

They are read from the bytes as sent. An id may hold anything, slashes too, so a path that was decoded first would fall into
the wrong parts.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from gate.core.ids import user_id

_OF_A_USER = re.compile(r"/+v1/+users/+([^/?]+)((?:/+[^/?]+)*)(?:\?.*)?")
_SLASHES = re.compile(r"/{2,}")


def template_of(raw_path: str) -> str | None:
    """The path with `{user}` where the id stands; None for a path that names none."""
    match = _OF_A_USER.fullmatch(raw_path)
    return None if match is None else "/v1/users/{user}" + _SLASHES.sub("/", match[2])


def user_in(raw_path: str) -> bytes:
    """The id in a path that `template_of` knows; `InvalidInput` if it is too long."""
    match = _OF_A_USER.fullmatch(raw_path)
    assert match is not None, "asked only of paths that have a template"
    return user_id(unquote_to_bytes(match[1]), "user")
