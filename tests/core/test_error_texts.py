"""The text of each error of the core, whole: people read it, and it must name the value, the bound, and never a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gate.core.app_secrets import app_secret, with_new_secret, without_old_secret
from gate.core.app_settings import setting_mistakes, with_settings
from gate.core.ids import app_key, check_user_ids, user_id
from gate.core.limits import MAX_RATE, checked_limits, parse_limits
from gate.core.model import AppFacts, UserFacts
from gate.core.operators import new_password, operator_name
from gate.core.presence import parse_address, parse_cursor, parse_epoch, parse_gateway, parse_platform, session_parts
from gate.core.reasons import audit_text
from gate.core.registration import profile_mistakes, registrable
from gate.core.revision import parse_revisions
from gate.core.slices import slicing_of
from gate.core.token import check_standing, check_user, generations, mint, verify
from gate.core.urls import ENCODE, split_hosts, split_url
from gate.errors import GateError, TokenRefused

LONG = "".join(chr(ord("a") + at % 26) for at in range(200))
"""No two of its beginnings are equal, so a text that is cut shows where."""
APP = AppFacts(key="app", secrets=("secret-1",))
BOTH = AppFacts(key="app", secrets=("secret-2", "secret-1"))
KEPT = AppFacts(key="app", secrets=("secret-2", "secret-1"), token_keys=("00" * 32,) * 8)
SLICED = AppFacts(key="app", secrets=("secret-1",), presence_slices=4)
NO_SPELLING = b"\xff" + LONG.encode()

REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: app_secret("short"), "secret: must be 20 to 128 printable ASCII characters without spaces"),
    (lambda: with_new_secret(BOTH, "secret-3"), "a rotation is in progress: drop the old secret first"),
    (
        lambda: with_new_secret(APP, "secret-1"),
        "secret: must differ from the present one and from those of the App's keys",
    ),
    (
        lambda: without_old_secret(KEPT, keep_tokens=True),
        "the Tokens of 8 dropped secrets are kept already: revoke them with this drop",
    ),
    (lambda: user_id("\ud800"), "userId: is not valid Unicode: it holds half of a surrogate pair"),
    (lambda: user_id(3), "userId: must be text or bytes, got int"),  # type: ignore[arg-type]
    (lambda: user_id(b"", "owner"), "owner: must be 1 to 64 bytes, 0 were sent"),
    (lambda: check_user_ids([b"a", b""]), "userId: must be 1 to 64 bytes, 0 were sent"),
    (lambda: app_key(LONG), f"app key: must be 1 to 32 letters, digits, '_' or '-', got {LONG[:80]!r}"),
    (lambda: checked_limits({LONG: 1}), f"rate limits: {LONG[:80]!r} is not the name of a limit"),
    (
        lambda: checked_limits({"user": MAX_RATE + 1}),
        "rate limits: must be 1 to 1,000,000 calls a second, user was given 1000001",
    ),
    (lambda: parse_limits(LONG), f"rate limits: must be rongcloud, off or NAME=RATE,…, got {LONG[:80]!r}"),
    (lambda: operator_name(LONG), f"operator: must be 1 to 64 letters, digits or . _ @ + -, got {LONG[:80]!r}"),
    (lambda: new_password("seven77"), "password: must be at least 8 characters"),
    (lambda: new_password("x" * 257), "password: must be printable, and at most 256 bytes"),
    (lambda: parse_platform(NO_SPELLING), "platform: must be 1 to 32 letters, digits, '.', '_' or '-', got "
     + repr("\\xff" + LONG[:39])),
    (lambda: parse_gateway(NO_SPELLING), "gateway: must be 1 to 64 visible ASCII characters, got "
     + repr("\\xff" + LONG[:79])),
    (lambda: parse_address(NO_SPELLING), "ip: must be at most 64 visible ASCII characters, got "
     + repr("\\xff" + LONG[:79])),
    (lambda: parse_epoch(NO_SPELLING), "epoch: must be a whole number from 1 to 9007199254740991, got "
     + repr("\\xff" + LONG[:39])),
    (lambda: parse_cursor(LONG), f"cursor: must be one that the feed gave, got {LONG[:80]!r}"),
    (lambda: session_parts(LONG), f"session: must be the id that opening it answered, got {LONG[:100]!r}"),
    (lambda: audit_text("x" * 513, "reason"), "reason: must be at most 512 characters, 513 were given"),
    (lambda: audit_text("\ud800", "actor", 9), "actor: is not UTF-8"),
    (
        lambda: registrable(b"\xff"),
        "userId: must be letters, digits or + | = - _ to be registered, '\\\\xff' was sent",
    ),
    (lambda: registrable(b"", "owner"), "owner: must be 1 to 64 bytes, 0 were sent"),
    (lambda: parse_revisions(LONG), f"revision: must read partition:epoch:seq as an answer gave it, got {LONG[:80]!r}"),
    (
        lambda: with_settings(SLICED, {"presence_slices": 2}),
        "presence_slices: can only be raised: it is 4 now, got 2",
    ),
    (lambda: with_settings(SLICED, {"presence_slices": 3}, str.upper),
     "PRESENCE_SLICES: can only be raised: it is 4 now, got 3"),
    (lambda: verify("gt1.", lambda _: None, 0), "this is not a Token"),
    (lambda: verify(mint(APP, b"", 1, bytes(8)), lambda _: None, 0), "this is not a Token"),
    (lambda: verify(mint(APP, b"ann", 1, bytes(8)), lambda _: None, 0), "the Token belongs to no App that is served here"),
    (lambda: check_standing(APP, b"none", 0, 1), "the secret of the Token was dropped"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "text"), REFUSED, ids=[text[:50] for _, text in REFUSED])
def test_the_text_of_an_error(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(GateError) as refused:
        call()
    assert str(refused.value) == text


VALUE_ERRORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: slicing_of(LONG), f"Presence is sliced as {LONG[:20]!r}, which this version does not understand"),
    (lambda: split_url("redis://[::1"), "it is not a URL"),
    (lambda: split_url("redis://a:b/c@h:x"), ENCODE),
    (lambda: split_url("redis://a:1/c@h"), ENCODE),
    (lambda: split_url("redis://h/0#x"), ENCODE),
    (lambda: split_hosts("redis://h:0"), "each host must be a name or an address, with a port or without"),
]


@pytest.mark.parametrize(("call", "text"), VALUE_ERRORS)
def test_the_text_of_a_value_error(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError) as refused:
        call()
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"list_ceiling": 0}, ["list_ceiling: must be 1 to 1,000,000, got 0"]),
        ({"name": ""}, ["name: must be 1 to 64 printable characters"]),
        (
            {"exempt": frozenset(str(number) for number in range(1_001))},
            ["exempt: an App has at most 1,000 exempt senders, this would be 1,001"],
        ),
        ({"exempt": frozenset([""])}, ["exempt: must be 1 to 64 bytes, 0 were sent"]),
        (
            {"webhook_url": "http://h/ x", "presence_webhook_url": "ftp://h"},
            [
                "webhook_url: must be at most 2,048 visible ASCII characters",
                "presence_webhook_url: must be an http or https URL with a host and without a user name, or empty for none",
            ],
        ),
        ({"rate_limits": {"users": 1}}, ["rate_limits: 'users' is not the name of a limit"]),
    ],
)
def test_the_text_of_a_setting_that_is_refused(changes: Mapping[str, Any], problems: list[str]) -> None:
    assert [str(one) for one in setting_mistakes(changes)] == problems


def test_the_text_of_a_profile_that_is_refused() -> None:
    assert list(profile_mistakes("é" * 65, "é" * 513)) == [
        ("name", "must be at most 64 characters, 65 were sent"),
        ("portrait", "must be at most 1024 bytes, 1026 were sent"),
    ]
    assert list(profile_mistakes("\ud800" * 65, "\ud800")) == [("name", "is not UTF-8"), ("portrait", "is not UTF-8")]
    assert list(profile_mistakes(None, None)) == []
    assert list(profile_mistakes("é" * 64, "é" * 512)) == []


@pytest.mark.parametrize(
    ("facts", "fault", "text", "until_ms"),
    [
        ({"deactivated": True}, "user-deactivated", "the User is deactivated", None),
        ({"tokens_valid_from_ms": 6}, "revoked", "the Token was revoked", None),
        ({"banned_until_ms": 8}, "user-banned", "the User is banned", 8),
    ],
)
def test_the_text_of_a_token_that_is_refused(
    facts: dict[str, Any], fault: str, text: str, until_ms: int | None
) -> None:
    with pytest.raises(TokenRefused) as refused:
        check_user(5, UserFacts(**facts), 7)
    assert (refused.value.fault, str(refused.value), refused.value.until_ms) == (fault, text, until_ms)


def test_a_token_stands_until_it_expires() -> None:
    (generation,) = generations(APP)
    for expires_at_ms, now_ms in ((0, 9), (9, 8)):
        check_standing(APP, generation, expires_at_ms, now_ms)
    for expires_at_ms in (1, 9):
        with pytest.raises(TokenRefused, match=r"\Athe Token has expired\Z") as refused:
            check_standing(APP, generation, expires_at_ms, 9)
        assert refused.value.fault == "expired"
    with pytest.raises(TokenRefused) as refused:
        check_standing(APP, b"none", 0, 1)
    assert refused.value.fault == "forged"
