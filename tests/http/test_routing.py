"""Paths that name a User."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

import pytest

from gate.errors import InvalidInput
from gate.http.routing import template_of, user_in


@pytest.mark.parametrize(
    "user", [b"a", b"a/b", b"//", b"?", b"%", b"+ ", b"\0\xff\r\n", b"{user}", "😀".encode(), b"x" * 64]
)
@pytest.mark.parametrize("below", ["", "/dossier", "?a=/b", "/dossier?x=1"])
def test_any_id_comes_out_as_it_was(user: bytes, below: str) -> None:
    raw = f"/v1/users/{quote_from_bytes(user, safe='')}{below}"
    assert template_of(raw) == "/v1/users/{user}" + below.partition("?")[0]
    assert user_in(raw) == user


@pytest.mark.parametrize("raw", ["//v1/users/a", "/v1//users/a", "/v1/users//a", "/v1/users/a//dossier"])
def test_doubled_slashes_name_no_user(raw: str) -> None:
    assert template_of(raw) is None


@pytest.mark.parametrize(
    "raw", ["/v1/users", "/v1/users/", "/v1/users/?a", "/v1/users/a/", "/v2/users/a", "/user/a", ""]
)
def test_others_name_none(raw: str) -> None:
    assert template_of(raw) is None


def test_an_id_that_is_too_long() -> None:
    with pytest.raises(InvalidInput, match="user: must be 1 to 64 bytes, 65 were sent"):
        user_in("/v1/users/" + "x" * 65)
