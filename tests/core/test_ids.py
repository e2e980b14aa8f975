"""Ids of Users and keys of Apps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.core.ids import MAX_ID_BYTES, app_key, check_user_ids, shown, user_id
from gate.errors import InvalidInput


@given(st.binary(min_size=1, max_size=MAX_ID_BYTES))
def test_any_bytes_of_the_right_length_are_an_id_as_they_are(raw: bytes) -> None:
    assert user_id(raw) == raw


@given(st.text(min_size=1, max_size=16))
def test_text_is_an_id_in_utf8(text: str) -> None:
    assert user_id(text) == text.encode()


@pytest.mark.parametrize(("value", "sent"), [(b"", 0), ("", 0), (b"x" * 65, 65), ("é" * 33, 66)])
def test_the_length_counts_in_bytes_and_the_error_says_so(value: str | bytes, sent: int) -> None:
    with pytest.raises(InvalidInput, match=f"1 to 64 bytes, {sent} were sent") as refused:
        user_id(value, "blackUserId")
    assert refused.value.parameter == "blackUserId"


def test_half_a_surrogate_pair_is_no_id() -> None:
    with pytest.raises(InvalidInput, match="surrogate"):
        user_id("a\ud800")


@pytest.mark.parametrize("key", ["a", "default", "A-b_9", "x" * 32])
def test_app_keys(key: str) -> None:
    assert app_key(key) == key


@pytest.mark.parametrize("key", ["", "x" * 33, "a b", "a:b", "a{b}", "a\n", "ключ", "a/b", "a\0"])
def test_no_app_keys(key: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 32 letters"):
        app_key(key)


@given(st.binary(min_size=1, max_size=MAX_ID_BYTES))
def test_any_id_can_be_shown(raw: bytes) -> None:
    assert shown(raw).encode()


def test_shown_keeps_utf8_and_escapes_the_rest() -> None:
    assert shown("客服".encode()) == "客服"
    assert shown(b"a\xff\x00") == "a\\xff\x00"


def test_many_ids_are_checked_as_each_would_be() -> None:
    check_user_ids([b"a", b"x" * MAX_ID_BYTES])
    with pytest.raises(InvalidInput, match="1 to 64 bytes, 65 were sent") as refused:
        check_user_ids([b"a", b"x" * 65, b""], "user")
    assert refused.value.parameter == "user"
    with pytest.raises(InvalidInput, match="0 were sent"):
        check_user_ids([b""])
