"""Rotation of a secret: which secrets sign, and which Tokens are valid, at each step."""

from __future__ import annotations

import pytest

from gate.core.app_secrets import MAX_TOKEN_KEYS, app_secret, caller_with, with_new_secret, without_old_secret
from gate.core.decide import FactsView
from gate.core.model import NO_FACTS, AppFacts, UserFacts
from gate.core.operators import ROLES, may, new_password, operator_name
from gate.core.scopes import app_caller
from gate.core.token import mint, verify
from gate.errors import InvalidInput, Refused, TokenRefused

FIRST = AppFacts(key="app", secrets=("secret-1",))


class View:
    """An App without facts of its Users."""

    def __init__(self, app: AppFacts) -> None:
        self.app = app

    def user(self, user: bytes) -> UserFacts:
        return NO_FACTS


def is_valid(token: str, app: AppFacts) -> bool:
    view: FactsView = View(app)  # type: ignore[assignment]
    try:
        verify(token, lambda _: view, 2)
    except TokenRefused as refusal:
        assert refusal.fault == "forged"
        return False
    return True


def token(app: AppFacts) -> str:
    return mint(app, b"ann", 1, b"12345678")


def test_both_secrets_are_valid_in_a_rotation_and_the_new_one_mints() -> None:
    both = with_new_secret(FIRST, "secret-2")
    assert both.secrets == ("secret-2", "secret-1")
    assert is_valid(token(FIRST), both) and is_valid(token(both), both)
    assert not is_valid(token(both), FIRST)
    with pytest.raises(Refused):
        with_new_secret(both, "secret-3")
    with pytest.raises(InvalidInput):
        with_new_secret(FIRST, "secret-1")


@pytest.mark.parametrize("keep_tokens", [True, False])
def test_the_drop_decides_about_the_old_tokens(keep_tokens: bool) -> None:
    both = with_new_secret(FIRST, "secret-2")
    second = without_old_secret(both, keep_tokens=keep_tokens)
    assert second.secrets == ("secret-2",)
    assert is_valid(token(FIRST), second) is keep_tokens
    assert is_valid(token(both), second)
    assert without_old_secret(second, keep_tokens=keep_tokens) == second, "safe to repeat"


def test_a_drop_that_ends_tokens_ends_those_that_were_kept_before() -> None:
    kept = without_old_secret(with_new_secret(FIRST, "secret-2"), keep_tokens=True)
    third = with_new_secret(kept, "secret-3")
    assert is_valid(token(FIRST), third)
    ended = without_old_secret(third, keep_tokens=False)
    assert not is_valid(token(FIRST), ended) and not is_valid(token(kept), ended)


def test_kept_token_keys_are_bounded() -> None:
    app = FIRST
    for number in range(MAX_TOKEN_KEYS):
        app = without_old_secret(with_new_secret(app, f"secret-{number + 2}"), keep_tokens=True)
    assert is_valid(token(FIRST), app)
    with pytest.raises(Refused):
        without_old_secret(with_new_secret(app, "one more"), keep_tokens=True)


@pytest.mark.parametrize("value", ["", "short", "has a space", "x" * 129, "tab\there", "naïve-secret"])
def test_secrets_that_are_none_are_not_repeated(value: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        app_secret(value, allows_short=True)
    assert not value or value not in str(refusal.value)


def test_a_secret_is_not_spelt_as_a_sealed_one() -> None:
    with pytest.raises(InvalidInput) as refusal:
        app_secret("enc:1:" + "x" * 20)
    assert str(refusal.value) == "secret: must not begin with enc:1:, as sealed secrets do"


def test_a_stored_secret_of_any_bytes_stands_for_the_app() -> None:
    app = AppFacts(key="app", secrets=("\udcff-secret",))
    assert caller_with(app, b"\xff-secret") == app_caller("app")
    assert caller_with(app, b"?-secret") is None


def test_a_short_secret_needs_its_flag() -> None:
    for short in ("x" * 8, "x" * 19):
        with pytest.raises(InvalidInput) as refusal:
            app_secret(short, flag="--short-secret")
        assert "must be 20 to 128" in str(refusal.value) and "--short-secret allows 8" in str(refusal.value)
        assert app_secret(short, allows_short=True) == short
    assert app_secret("x" * 20) == "x" * 20 and app_secret("x" * 128) == "x" * 128
    for wrong, flag in (
        ("x" * 19, ""),
        ("x" * 129, "--short-secret"),
        ("x" * 18 + " ", "--short-secret"),
        ("x" * 7, "--f"),
    ):
        with pytest.raises(InvalidInput) as refusal:
            app_secret(wrong, flag=flag)
        assert str(refusal.value) == "secret: must be 20 to 128 printable ASCII characters without spaces"
    with pytest.raises(InvalidInput):
        app_secret("x" * 7, allows_short=True)
    with pytest.raises(InvalidInput, match=r"without spaces$"):
        app_secret("x" * 8)


def test_each_role_may_what_those_before_it_may() -> None:
    assert [[may(role, needed) for needed in ROLES] for role in ROLES] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


@pytest.mark.parametrize("value", ["", "1234567", "with\ttab in it", "x" * 257, "\udcff" * 8])
def test_passwords_that_are_none_are_not_repeated(value: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        new_password(value)
    assert not value or value not in str(refusal.value)


def test_names_and_passwords_that_are_fine() -> None:
    for name in ("a", "ann.b_c@example.com", "x" * 64, "a+b-c"):
        assert operator_name(name) == name
    for password in ("12345678", "päss wörd: 8", "x" * 256):
        assert new_password(password) == password
