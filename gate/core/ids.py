"""What may name a User or an App.

A User id is any 1 to 64 bytes: an app server chooses it, so NUL, CR LF, spaces, colons and emoji all occur. Nothing may ever
join ids with a separator; every encoding prefixes lengths or puts the id last. An App key is chosen by the operator and is
kept to characters that are safe in key names, headers and file names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gate.errors import InvalidInput

MAX_ID_BYTES = 64
"""RongCloud's limit; also what lets one byte carry a length."""

_APP_KEY = re.compile(r"[A-Za-z0-9_-]{1,32}")


def user_id(value: str | bytes, parameter: str = "userId") -> bytes:
    """The id as bytes; `InvalidInput` names `parameter` if it is empty or longer than 64 bytes."""
    try:
        raw = value.encode() if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise InvalidInput(parameter, "is not valid Unicode: it holds half of a surrogate pair") from None
    if not isinstance(raw, bytes):
        raise InvalidInput(parameter, f"must be text or bytes, got {type(raw).__name__}")
    if not 1 <= len(raw) <= MAX_ID_BYTES:
        raise InvalidInput(parameter, f"must be 1 to {MAX_ID_BYTES} bytes, {len(raw)} were sent")
    return raw


def check_user_ids(raw: Sequence[bytes], parameter: str = "userId") -> None:
    """As `user_id` for each of at least one, without a call of Python's for each."""
    if min(map(len, raw)) < 1 or max(map(len, raw)) > MAX_ID_BYTES:
        for one in raw:
            user_id(one, parameter)


def app_key(value: str) -> str:
    """The App key itself, or `InvalidInput`: 1 to 32 letters, digits, `_` or `-`."""
    if not _APP_KEY.fullmatch(value):
        raise InvalidInput("app key", f"must be 1 to 32 letters, digits, '_' or '-', got {value[:80]!r}")
    return value


def shown(raw: bytes) -> str:
    """An id for people and JSON: UTF-8 where it is, else with `\\xNN` escapes. Not reversible; never used as a key."""
    return raw.decode("utf-8", "backslashreplace")
