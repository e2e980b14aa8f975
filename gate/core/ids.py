"""Rules for the ids of Users and the keys of Apps.

A User id is any 1 to 64 bytes. The app server chooses it, so NUL, CR LF, spaces, colons and emoji all occur. Ids must never be
joined with a separator: every encoding prefixes lengths or puts the id last. The operator chooses an App key, which is limited
to characters that are safe in key names, headers and file names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gate.errors import InvalidInput

# RongCloud's limit. It also lets one byte carry a length.
MAX_ID_BYTES = 64

is_app_key = re.compile(r"[A-Za-z0-9_-]{1,32}").fullmatch
"""Whether the text can be the key of an App."""


def user_id(value: str | bytes, parameter: str = "userId") -> bytes:
    """Return the id as bytes. Raises `InvalidInput`, which names `parameter`, if it is empty or longer than 64 bytes."""
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
    """Check at least one id as `user_id` does, without a Python call for each."""
    if min(map(len, raw)) < 1 or max(map(len, raw)) > MAX_ID_BYTES:
        # The slow path finds the first invalid id and raises.
        for one in raw:
            user_id(one, parameter)


def app_key(value: str) -> str:
    """Return the App key. Raises `InvalidInput` unless it is 1 to 32 letters, digits, `_` or `-`."""
    if not is_app_key(value):
        raise InvalidInput("app key", f"must be 1 to 32 letters, digits, '_' or '-', got {value[:80]!r}")
    return value


def shown(raw: bytes) -> str:
    """Return an id for people and JSON: UTF-8 where possible, else `\\xNN` escapes. Not reversible; never used as a key."""
    return raw.decode(errors="backslashreplace")
