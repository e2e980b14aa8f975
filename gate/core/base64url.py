"""base64url without padding, as used in Tokens and Session ids. Each byte string has exactly one accepted encoding.

A connect takes five of these calls. The functions of the module `base64` cost twice as much, hence `binascii`.

Pure. Called by `token` and `presence`.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")
# By length modulo 4. Length 1 modulo 4 is never valid, so it gets no padding and fails to decode.
_PADDING = (b"", b"", b"==", b"=")


def encoded(raw: bytes) -> bytes:
    """Encode bytes."""
    return b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=")


def decoded(text: bytes) -> bytes:
    """Decode text. Returns b"" if the text is not exactly what `encoded` returns for some bytes."""
    try:
        raw = a2b_base64(text.translate(_FROM_URL) + _PADDING[len(text) % 4])
    except ValueError:
        return b""
    # binascii ignores unknown characters and unused low bits; encoding again rejects such second spellings.
    return raw if encoded(raw) == text else b""
