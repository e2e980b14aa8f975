"""Replies byte for byte in both protocols, and read back by hiredis, which is what clients use."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gate.wire import replies
from gate.wire.replies import Value


def read(reply: bytes) -> object:
    """What a client sees; fails unless `reply` is exactly one reply."""
    reader = hiredis.Reader(notEnoughData=NotImplemented)
    reader.feed(reply + b"+end\r\n")
    value = reader.gets()
    assert reader.gets() == b"end"
    return value


@pytest.mark.parametrize(
    "constant, value",
    [
        (replies.ONE, 1),
        (replies.ZERO, 0),
        (replies.OK, b"OK"),
        (replies.PONG, b"PONG"),
        (replies.RESET, b"RESET"),
        (replies.EMPTY_ARRAY, []),
        (replies.EMPTY_BULK, b""),
        (replies.NULL_RESP2, None),
        (replies.NULL_RESP3, None),
        (replies.TRUE_RESP3, True),
        (replies.FALSE_RESP3, False),
    ],
)
def test_constants(constant: bytes, value: object) -> None:
    assert read(constant) == value


@pytest.mark.parametrize(
    "value, resp2, resp3",
    [
        (None, b"$-1\r\n", b"_\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (False, b":0\r\n", b"#f\r\n"),
        (0, b":0\r\n", b":0\r\n"),
        (-(2**63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        (2.0, b"$1\r\n2\r\n", b",2\r\n"),
        (float("inf"), b"$3\r\ninf\r\n", b",inf\r\n"),
        (float("-inf"), b"$4\r\n-inf\r\n", b",-inf\r\n"),
        (float("nan"), b"$3\r\nnan\r\n", b",nan\r\n"),
        (b"\r\n\x00", b"$3\r\n\r\n\x00\r\n", b"$3\r\n\r\n\x00\r\n"),
        ("é", b"$2\r\n\xc3\xa9\r\n", b"$2\r\n\xc3\xa9\r\n"),
        ([], b"*0\r\n", b"*0\r\n"),
        ((1, [b"a"]), b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n", b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n"),
        ({}, b"*0\r\n", b"%0\r\n"),
        ({"k": {b"n": None}}, b"*2\r\n$1\r\nk\r\n*2\r\n$1\r\nn\r\n$-1\r\n", b"%1\r\n$1\r\nk\r\n%1\r\n$1\r\nn\r\n_\r\n"),
    ],
)
def test_encode(value: Value, resp2: bytes, resp3: bytes) -> None:
    assert replies.encode(value, resp3=False) == resp2
    assert replies.encode(value, resp3=True) == resp3


def test_what_resp_cannot_say_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="set"):
        replies.encode({1}, resp3=True)  # type: ignore[arg-type]


def test_no_text_breaks_the_framing() -> None:
    assert replies.error("ERR a\r\nb\n+OK\r\n") == b"-ERR a  b +OK  \r\n"
    assert replies.simple("a\r\n:1") == b"+a  :1\r\n"
    assert replies.bulk("a\r\n:1") == b"$5\r\na\r\n:1\r\n"


def test_a_byte_that_is_no_text_leaves_as_it_came() -> None:
    assert replies.error(b"ERR \xff".decode("utf-8", "surrogateescape")) == b"-ERR \xff\r\n"
    assert replies.error("ERR \ud800") == b"-ERR ?\r\n"


def test_headers() -> None:
    assert replies.array_header(3) == b"*3\r\n"
    assert replies.map_header(3, resp3=True) == b"%3\r\n"
    assert replies.map_header(3, resp3=False) == b"*6\r\n"
    assert replies.yes_or_no([True, False, True]) == b"*3\r\n:1\r\n:0\r\n:1\r\n"
    assert replies.yes_or_no([]) == replies.EMPTY_ARRAY


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=20)
NESTED = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=5), inner), max_leaves=6
)


@settings(deadline=None)
@given(NESTED)
def test_resp3_reads_back_as_it_was(value: Value) -> None:
    assert read(replies.encode(value, resp3=True)) == value


@settings(deadline=None)
@given(NESTED, st.text())
def test_every_reply_is_exactly_one(value: Value, text: str) -> None:
    read(replies.encode(value, resp3=False))
    assert read(replies.bulk(text)) == text.encode("utf-8", "replace")
    read(replies.simple(text))
    read(replies.error(text))
