"""Forms and query strings: what senders really send, and every way to send it wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.errors import InvalidInput
from gate.http.bodies import TooLong
from gate.http.forms import Form
from gate.http.options import MAX_FIELDS


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b"", {}),
        (b"userId=a", {"userId": [b"a"]}),
        (b"userId=a&userId=b", {"userId": [b"a", b"b"]}),
        (b"userId=b&minute=1&userId=a", {"userId": [b"b", b"a"], "minute": [b"1"]}),
        (b"userId=a,b", {"userId": [b"a,b"]}),
        (b"userId=a%2Cb", {"userId": [b"a,b"]}),
        (b"userId", {"userId": [b""]}),
        (b"userId=", {"userId": [b""]}),
        (b"=a", {"": [b"a"]}),
        (b"&&userId=a&", {"userId": [b"a"]}),
        (b"userId=a=b", {"userId": [b"a=b"]}),
        (b"userId=a+b%2Bc", {"userId": [b"a b+c"]}),
        (b"user%49d=a", {"userId": [b"a"]}),
        (b"userId=%00%0D%0A", {"userId": [b"\0\r\n"]}),
        (b"userId=%F0%9F%98%80", {"userId": ["😀".encode()]}),
        (b"userId=%ff", {"userId": [b"\xff"]}),
        (b"userId=%e4%bd%a0", {"userId": ["你".encode()]}),
    ],
)
def test_fields_are_read_as_sent(raw: bytes, fields: dict[str, list[bytes]]) -> None:
    assert Form(raw).fields == fields


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("portraitUri=http://a.b:8/c?d", b"http://a.b:8/c?d"),
        ("portraitUri=100%", b"100%"),
        ("portraitUri=5%zz", b"5%zz"),
        ("portraitUri=你好", "你好".encode()),
        ("portraitUri=++http", b"  http"),
    ],
)
def test_values_that_the_python_sdk_leaves_unescaped(raw: str, value: bytes) -> None:
    assert Form(raw.encode()).one("portraitUri") == value


@given(st.lists(st.tuples(st.text(min_size=1), st.binary()), max_size=20))
def test_what_is_encoded_by_the_book_comes_back(pairs: list[tuple[str, bytes]]) -> None:
    wanted: dict[str, list[bytes]] = {}
    for name, value in pairs:
        wanted.setdefault(name.encode("utf-8", "replace").decode(), []).append(value)
    raw = "&".join(f"{quote_plus(name, errors='replace')}={quote_plus(value)}" for name, value in pairs)
    assert Form(raw.encode()).fields == wanted


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_a_refusal(raw: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        Form(raw).users("a", 20)


def test_too_many_fields_are_refused() -> None:
    assert len(Form(b"a=1&" * (MAX_FIELDS - 1)).fields["a"]) == MAX_FIELDS - 1
    with pytest.raises(InvalidInput, match=f"at most {MAX_FIELDS} fields"):
        Form(b"a=1&" * (MAX_FIELDS + 1))


def test_users_are_taken_once_each_in_order() -> None:
    assert Form(b"userId=b&userId=a&userId=b").users("userId", 20) == [b"b", b"a"]


USERS: Callable[[Form], Any] = lambda sent: sent.users("userId", 20)  # noqa: E731
USER: Callable[[Form], Any] = lambda sent: sent.user("userId")  # noqa: E731
MINUTE: Callable[[Form], Any] = lambda sent: sent.whole("minute", 1, 43_200)  # noqa: E731


@pytest.mark.parametrize(
    ("read", "raw", "parameter", "problem"),
    [
        (USERS, b"", "userId", "is required"),
        (USERS, b"userId=", "userId", "is required"),
        (USERS, b"userId=a&userId=", "userId", "must be 1 to 64 bytes, 0 were sent"),
        (USERS, urlencode({"userId": [*"abcdefghijklmnopqrstu"]}, doseq=True).encode(), "userId",
         "must be given 1 to 20 times, 21 were sent"),
        (USERS, b"userId=%ff", "userId", "must be UTF-8, byte 0 is not"),
        (USERS, b"userId=ok&userId=ab%c3", "userId", "must be UTF-8, byte 2 is not"),
        (USER, b"", "userId", "is required"),
        (USER, b"userId=a&userId=b", "userId", "must be given once, 2 were sent"),
        (USER, b"userId=%80", "userId", "must be UTF-8, byte 0 is not"),
        (MINUTE, b"", "minute", "is required"),
        (MINUTE, b"minute=", "minute", "is required"),
        (MINUTE, b"minute=0", "minute", "must be a whole number from 1 to 43200, '0' was sent"),
        (MINUTE, b"minute=43201", "minute", "must be a whole number from 1 to 43200, '43201' was sent"),
        (MINUTE, b"minute=-1", "minute", "must be a whole number from 1 to 43200, '-1' was sent"),
        (MINUTE, b"minute=1.5", "minute", "must be a whole number from 1 to 43200, '1.5' was sent"),
        (MINUTE, b"minute=1e3", "minute", "must be a whole number from 1 to 43200, '1e3' was sent"),
        (MINUTE, b"minute=+1", "minute", "must be a whole number from 1 to 43200, ' 1' was sent"),
        (MINUTE, "minute=１".encode(), "minute", "must be a whole number from 1 to 43200, '１' was sent"),
        (MINUTE, b"minute=" + b"9" * 5000, "minute",
         f"must be a whole number from 1 to 43200, '{'9' * 80}…' was sent"),
        (MINUTE, b"minute=1&minute=2", "minute", "must be given once, 2 were sent"),
        (MINUTE, b"minute=%ff", "minute", r"must be a whole number from 1 to 43200, '\\xff' was sent"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_bound(
    read: Callable[[Form], Any], raw: bytes, parameter: str, problem: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(Form(raw))
    assert (caught.value.parameter, caught.value.problem) == (parameter, problem)
    assert not isinstance(caught.value, TooLong)


@pytest.mark.parametrize("read", [USER, USERS, lambda sent: sent.raw_user("userId")])
def test_64_bytes_are_an_id_and_65_are_too_long(read: Callable[[Form], Any]) -> None:
    read(Form(b"userId=" + "你".encode() * 21 + b"x"))
    with pytest.raises(TooLong) as caught:
        read(Form(b"userId=" + b"x" * 65))
    assert caught.value.problem == "must be 1 to 64 bytes, 65 were sent"


def test_a_raw_id_may_be_any_bytes() -> None:
    assert Form(b"from=%ff%00").raw_user("from") == b"\xff\x00"
    with pytest.raises(InvalidInput, match="is required"):
        Form(b"").raw_user("from")


def test_a_default_stands_for_absent_and_for_empty() -> None:
    assert Form(b"").whole("page", 0, 9, default=3) == 3
    assert Form(b"page=").whole("page", 0, 9, default=3) == 3
    assert Form(b"page=0").whole("page", 0, 9, default=3) == 0
