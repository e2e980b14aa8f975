"""base64url without padding, as Tokens and Sessions' ids are spelled: one spelling for each bytes, and no other is taken.

In a storm each connect takes five of these, so they are not those of `base64`, which cost twice as much.

Pure. Called by `token` and `presence`.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_PADDING = (b"", b"", b"==", b"=")
"""By what is left of the length after whole groups of four; one alone is no encoding."""


def encoded(raw: bytes) -> bytes:
    """The text of these bytes."""
    return b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=")


def decoded(text: bytes) -> bytes:
    """The bytes whose `encoded` is this text; nothing where it is that of none."""
    try:
        raw = a2b_base64(text.translate(_FROM_URL) + _PADDING[len(text) % 4])
    except ValueError:
        return b""
    return raw if encoded(raw) == text else b""
