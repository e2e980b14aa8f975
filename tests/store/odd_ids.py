"""Ids that break code which joins, splits, escapes or globs them."""

from __future__ import annotations

ODD_IDS = [
    b"\0",
    b"\r\n",
    b" ",
    b":",
    b"a:b:c",
    b"{1}",
    b"}:log",
    b"black-ends:default:x",
    b"*",
    b"[a-z]?\\",
    b"%s%n",
    "😀".encode(),
    "é".encode("latin-1"),
    b"\xff" * 64,
    b"x" * 64,
    b"-1",
    b"1e309",
]
