"""Small text files as people have them: with a byte order mark, in UTF-16 as Windows writes it, with CRLF.

Pure: bytes in, text out. Called for secrets and settings in files, for `credentials.json`, and by the import for the first
bytes of a file.
"""

from __future__ import annotations

import codecs

UTF8_MARK = codecs.BOM_UTF8
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(raw: bytes) -> str:
    """The text, without its byte order mark and with plain line ends; `ValueError` for bytes that are no text."""
    encoding = "utf-16" if raw.startswith(UTF16_MARKS) else "utf-8-sig"
    return raw.decode(encoding).replace("\r\n", "\n")
