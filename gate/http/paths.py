"""Paths that name a User or an App: `/v1/users/{user}`, `/v1/apps/{app}` and what lies below them.

They are read from the bytes as sent. A User's id may hold anything, slashes too, so a path that was decoded first would fall
into the wrong parts.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from gate.core.ids import app_key, user_id

_OF_ONE = re.compile(r"/+v1/+(users|apps)/+([^/?]+)((?:/+[^/?]+)*)(?:\?.*)?")
_NOUN_OF = {"users": "user", "apps": "app"}
_SLASHES = re.compile(r"/{2,}")


def template_of(raw_path: str) -> str | None:
    """The path with `{user}` or `{app}` where the id or the key stands; None for a path that names none."""
    match = _OF_ONE.fullmatch(raw_path)
    return None if match is None else f"/v1/{match[1]}/{{{_NOUN_OF[match[1]]}}}" + _SLASHES.sub("/", match[3])


def user_in(raw_path: str) -> bytes:
    """The id in a path that `template_of` knows; `InvalidInput` if it is too long."""
    return user_id(_named(raw_path), "user")


def app_in(raw_path: str) -> str:
    """The App key in a path that `template_of` knows; `InvalidInput` if no App can have it."""
    return app_key(_named(raw_path).decode("utf-8", "replace"))


def _named(raw_path: str) -> bytes:
    match = _OF_ONE.fullmatch(raw_path)
    assert match is not None, "asked only of paths that have a template"
    return unquote_to_bytes(match[2])
