"""The names of limits, and how a setting is written."""

from __future__ import annotations

import pytest

from gate.core.limits import LIMITABLE, RONGCLOUD_LIMITS, checked_limits, limit_names, parse_limits
from gate.errors import InvalidInput


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/user/getToken.json", ("user", "user/getToken")),
        ("/user/blacklist/add.json", ("user", "user/blacklist", "user/blacklist/add")),
        ("/user/blocklist/add.json", ("user", "user/blacklist", "user/blacklist/add")),
        ("/user/activate.json", ("user", "user/reactivate")),
        ("/user/activates.json", ("user", "user/activates")),
        ("/v1/users/{user}/dossier", ("v1", "v1/users")),
        ("/v1/X.json", ("v1", "v1/X")),
        ("/X/v1/X", ("X", "X/v1", "X/v1/X")),
        ("/client/v1/blacklist", ("client", "client/v1", "client/v1/blacklist")),
    ],
)
def test_a_call_counts_against_every_limit_that_covers_it(path: str, names: tuple[str, ...]) -> None:
    assert limit_names(path) == names


def test_the_preset_has_rongclouds_figures() -> None:
    limits = parse_limits("rongcloud")
    assert limits == RONGCLOUD_LIMITS
    assert limits["user/getToken"] == 200
    assert {rate for name, rate in limits.items() if name != "user/getToken"} == {100}


def test_a_setting_of_ones_own() -> None:
    assert parse_limits("off") == {}
    assert parse_limits("user=500, v1/bans=20") == {"user": 500, "v1/bans": 20}
    assert parse_limits("user=500,rongcloud") == {"user": 500, **RONGCLOUD_LIMITS}
    assert parse_limits("rongcloud,user/getToken=50") == {**RONGCLOUD_LIMITS, "user/getToken": 50}


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "user", "user=", "user=0", "user=-1", "user=1.5", "user=1000001", "user=1e3", "user=1,",
        "off,user=1", "rongcloud=1", "users=1", "=1", "user=" + "9" * 5_000, "USER=1",
    ],
)  # fmt: skip
def test_what_would_limit_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="rate limits"):
        parse_limits(text)


def test_numbers_are_bounded() -> None:
    assert checked_limits(dict.fromkeys(LIMITABLE, 1)).keys() == LIMITABLE
    assert parse_limits("user=1000000") == checked_limits({"user": 1_000_000}) == {"user": 1_000_000}
    with pytest.raises(InvalidInput):
        checked_limits({"user": 1_000_001})
