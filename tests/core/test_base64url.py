"""base64url without padding."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.core.token import decoded, encoded


@given(st.binary(max_size=200))
def test_it_is_what_the_standard_library_says(raw: bytes) -> None:
    text = encoded(raw)
    assert text == urlsafe_b64encode(raw).rstrip(b"=")
    assert decoded(text) == raw


def test_letters_at_the_end_stay() -> None:
    assert encoded(b"\0\0\x17") == b"AAAX"
    assert decoded(b"AAAX") == b"\0\0\x17"


@given(st.binary(max_size=40) | st.text("AQgw-_+/=\n ", max_size=12).map(str.encode))
def test_no_other_spelling_is_taken(text: bytes) -> None:
    raw = decoded(text)
    assert raw == b"" or urlsafe_b64encode(raw).rstrip(b"=") == text


@pytest.mark.parametrize(
    "text", [b"A", b"AAAAA", b"AB", b"AA==", b"AA=", b"+/+/", b"AA AA", b"AAAA\n", b"\xff\xff\xff\xff"]
)
def test_what_is_no_encoding_has_no_bytes(text: bytes) -> None:
    assert urlsafe_b64decode(b"-_-_") == decoded(b"-_-_")
    assert decoded(text) == b""
