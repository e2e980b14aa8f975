"""URLs that may hold a password: what every reader of one refuses, so that no part of a password reaches a message.

A password with a `/`, `?` or `#` that is not percent-encoded ends the host's part of a URL early. What is left of it then
stands where a port, a path or an option is looked for, and a message that names those would show it. Pure.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

ENCODE = (
    "percent-encode what is special in the user's name and the password: %2F for /, %3F for ?, %23 for #, %40 for @"
)


def split_url(text: str) -> SplitResult:
    """The parts of a URL with its port read; a `ValueError` whose text repeats nothing of it if it is misleading."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(ENCODE if "@" in text else "it is no URL") from None
    if parts.fragment or (parts.netloc and "@" in parts.path + parts.query):
        raise ValueError(ENCODE)
    return parts
