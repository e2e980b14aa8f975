"""Page tokens: RongCloud's samples, round trips, and anything that no query returned."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.errors import InvalidInput
from gate.http.fields import page_cursor, page_token


@pytest.mark.parametrize(("token", "cursor"), [("COIB", 226), ("CNgB", 216), ("CBc=", 23)])
def test_the_samples_in_rongclouds_documents(token: str, cursor: int) -> None:
    assert page_cursor(token) == cursor
    assert page_token(cursor) == token


@given(st.integers(0, (1 << 63) - 1))
def test_a_token_gives_its_cursor_back(cursor: int) -> None:
    token = page_token(cursor)
    assert page_cursor(token) == cursor
    assert page_cursor(token.rstrip("=")) == cursor
    assert "+" not in token
    assert "/" not in token


@pytest.mark.parametrize("token", ["x", "CA", "!!!!", "CIA=", "EOIB", "COIBAA==", "你", "C" * 400, "CP///////////wE="])
def test_anything_else_is_refused_by_name(token: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        page_cursor(token)
    assert caught.value.parameter == "pageToken"


@given(st.text(max_size=30))
def test_no_text_does_worse_than_a_refusal(token: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert page_cursor(token) >= 0
