"""Decoding of small text files as people have them: with a byte order mark, in UTF-16 as Windows writes it, with CRLF.

Pure: bytes in, text out. Used for secrets and settings in files, for `credentials.json`, and by the import for the first
bytes of a file.
"""

from __future__ import annotations

import codecs

UTF8_MARK = codecs.BOM_UTF8
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(raw: bytes) -> str:
    """Return the text without byte order mark and with LF line ends. Raises `ValueError` for bytes that are not text."""
    encoding = "utf-16" if raw.startswith(UTF16_MARKS) else "utf-8-sig"
    return raw.decode(encoding).replace("\r\n", "\n")
