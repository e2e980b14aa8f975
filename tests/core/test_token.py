"""Tokens: a minted one is read back, for any id; anything else is refused with the right fault."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gate.core import token as tokens
from gate.core.decide import FactsView
from gate.core.model import FOREVER_MS, SEALED_PREFIX, AppFacts, ListKind, UserFacts
from gate.core.token import MAX_TOKEN_CHARS, PREFIX, Claims, is_same_app, mint, signing_key, verify
from gate.errors import SecretsSealed, TokenRefused

NOW = 1_700_000_000_000
NONCE = b"\x00nonce\xff\x01"
APP = AppFacts(key="shop", secrets=("first-secret",))
LONGEST = AppFacts(key="k" * 32, secrets=("s" * 128,), token_ttl_s=1 << 31)

ids = st.binary(min_size=1, max_size=64)


class View:
    """One App's facts, with those of the User `ann`."""

    def __init__(self, app: AppFacts, facts: UserFacts) -> None:
        self.app = app
        self._facts = facts
        self._whose = b"ann"

    def user(self, user_id: bytes) -> UserFacts:
        return self._facts if user_id == self._whose else UserFacts()

    def entry_until_ms(self, kind: ListKind, owner: bytes, member: bytes) -> int:
        return 0


def here(*apps: AppFacts, **facts: Any) -> Callable[[str], FactsView | None]:
    views = {app.key: View(app, UserFacts(**facts)) for app in apps}
    return views.get


def refusal(token: str, lookup: Callable[[str], FactsView | None] | None = None, now_ms: int = NOW) -> str:
    with pytest.raises(TokenRefused) as caught:
        verify(token, lookup or here(APP), now_ms)
    # A reader of the error, or of a log of it, must not get the Token.
    assert len(token) < 20 or token not in str(caught.value)
    return caught.value.fault


@given(ids, st.integers(0, FOREVER_MS), st.binary(min_size=8, max_size=8))
@example(b"\xff" * 64, FOREVER_MS, b"\xff" * 8)
@example(b"\0" * 64, 0, b"\0" * 8)
def test_what_is_minted_is_read_back(user: bytes, minted_at_ms: int, nonce: bytes) -> None:
    token = mint(LONGEST, user, minted_at_ms, nonce)
    assert len(token) <= MAX_TOKEN_CHARS and token.isascii() and token.startswith(PREFIX)
    assert set(token[len(PREFIX) :]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    claims = verify(token, here(LONGEST), minted_at_ms)
    found = (claims.app, claims.user, claims.minted_at_ms, claims.expires_at_ms, claims.nonce)
    assert found == (LONGEST.key, user, minted_at_ms, minted_at_ms + (1 << 31) * 1_000, nonce)


def test_the_nonce_makes_tokens_of_one_moment_differ() -> None:
    assert mint(APP, b"ann", NOW, NONCE) != mint(APP, b"ann", NOW, NONCE[::-1])
    assert mint(APP, b"ann", NOW, NONCE) == mint(APP, b"ann", NOW, NONCE)


@pytest.mark.parametrize("user", [b"ann", b"\0\r\n:{9}" * 8])
def test_every_other_string_is_refused(user: bytes) -> None:
    token = mint(APP, user, NOW, NONCE)
    for cut in range(len(token)):
        assert refusal(token[:cut]) in ("malformed", "forged", "app-unknown")
    for at, char in enumerate(token):
        for other in ("A", "B", "-", "=", "+", " ", "\0", "é"):
            if other != char:
                assert refusal(token[:at] + other + token[at + 1 :]) in ("malformed", "forged", "app-unknown")
    for extended in (token + "=", token + "A", token + "AA", token + "AAAA", " " + token, token + "\n", token * 2):
        assert refusal(extended) in ("malformed", "forged")


@given(st.text(max_size=300) | st.binary(max_size=250).map(lambda raw: PREFIX + base64.urlsafe_b64encode(raw).decode()))
def test_noise_is_refused_in_a_known_word(noise: str) -> None:
    assert refusal(noise) in ("malformed", "app-unknown", "forged")


def test_a_jwt_without_algorithm_is_no_token() -> None:
    for forged in (
        jwt.encode({"a": "shop", "u": "ann"}, "", algorithm="none"),
        jwt.encode({"a": "shop", "u": "ann"}, APP.secrets[0].ljust(32), algorithm="HS256"),
    ):
        assert refusal(forged) == "malformed"
        assert refusal(PREFIX + forged) == "malformed"


def test_the_request_secret_itself_signs_no_token() -> None:
    signed = base64.urlsafe_b64decode(mint(APP, b"ann", NOW, NONCE)[len(PREFIX) :] + "==")
    for key in (APP.secrets[0].encode(), b"", signing_key("other")):
        mac = hmac.digest(key, PREFIX.encode() + signed[:-32], hashlib.sha256)
        again = PREFIX + base64.urlsafe_b64encode(signed[:-32] + mac).rstrip(b"=").decode()
        assert refusal(again) == "forged"


def test_a_token_is_of_its_app_only() -> None:
    token = mint(APP, b"ann", NOW, NONCE)
    twin = msgspec.structs.replace(APP, key="shop2")
    assert refusal(token, here(twin)) == "app-unknown"
    assert verify(token, here(APP, twin), NOW).app == "shop"
    raw = base64.urlsafe_b64decode(token[len(PREFIX) :] + "==")
    renamed = base64.urlsafe_b64encode(raw.replace(b"\x04shop", b"\x05shop2")).rstrip(b"=").decode()
    assert refusal(PREFIX + renamed, here(APP, twin)) == "forged"


def test_it_expires_at_the_very_millisecond() -> None:
    app = msgspec.structs.replace(APP, token_ttl_s=60)
    token = mint(app, b"ann", NOW, NONCE)
    assert verify(token, here(app), NOW + 59_999).expires_at_ms == NOW + 60_000
    assert refusal(token, here(app), NOW + 60_000) == "expired"
    permanent = mint(APP, b"ann", NOW, NONCE)
    assert verify(permanent, here(APP), FOREVER_MS).expires_at_ms == 0


def test_revocation_spares_what_was_minted_at_its_moment() -> None:
    token = mint(APP, b"ann", NOW, NONCE)
    assert verify(token, here(APP, tokens_valid_from_ms=NOW), NOW).user == b"ann"
    assert refusal(token, here(APP, tokens_valid_from_ms=NOW + 1)) == "revoked"


def test_a_user_that_may_not_connect_has_no_valid_token() -> None:
    token = mint(APP, b"ann", NOW, NONCE)
    assert refusal(token, here(APP, deactivated=True, tokens_valid_from_ms=NOW + 1)) == "user-deactivated"
    assert refusal(token, here(APP, banned_until_ms=NOW + 1)) == "user-banned"
    assert verify(token, here(APP, banned_until_ms=NOW), NOW).user == b"ann"
    with pytest.raises(TokenRefused) as caught:
        verify(token, here(APP, banned_until_ms=NOW + 5), NOW)
    assert caught.value.until_ms == NOW + 5


def test_a_rotation_keeps_old_tokens_until_the_old_secret_is_dropped() -> None:
    old = mint(APP, b"ann", NOW, NONCE)
    both = msgspec.structs.replace(APP, secrets=("second-secret", "first-secret"))
    new = mint(both, b"ann", NOW, NONCE)
    assert verify(old, here(both), NOW).user == verify(new, here(both), NOW).user == b"ann"
    assert refusal(new, here(APP)) == "forged"
    dropped = msgspec.structs.replace(APP, secrets=("second-secret",))
    assert refusal(old, here(dropped)) == "forged"
    kept = msgspec.structs.replace(dropped, token_keys=(signing_key("first-secret").hex(),))
    assert verify(old, here(kept), NOW) == verify(old, here(APP), NOW)
    assert verify(new, here(kept), NOW).generation != verify(old, here(kept), NOW).generation


def test_what_a_token_says_is_as_documented() -> None:
    """Another language that mints or reads Tokens by the docstring must agree."""
    key = hmac.digest(b"first-secret", b"gate token signing key 1", "sha256")
    claims = hashlib.sha256(key).digest()[:4] + NOW.to_bytes(8, "big") + bytes(8) + NONCE + b"\x04shop" + b"ann"
    signed = claims + hmac.digest(key, b"gt1." + claims, "sha256")
    assert mint(APP, b"ann", NOW, NONCE) == "gt1." + base64.urlsafe_b64encode(signed).rstrip(b"=").decode()
    assert tokens.verify(mint(APP, b"ann", NOW, NONCE), here(APP), NOW) == Claims(
        "shop", b"ann", NOW, 0, NONCE, claims[:4]
    )


def test_versions_of_one_app_share_a_secret_or_their_creation() -> None:
    app = AppFacts(key="shop", secrets=("one",), created_at_ms=5)
    for other in (
        app,
        msgspec.structs.replace(app, secrets=("two",)),
        msgspec.structs.replace(app, created_at_ms=6),
        msgspec.structs.replace(app, created_at_ms=6, secrets=("two",), token_keys=(signing_key("one").hex(),)),
    ):
        assert is_same_app(app, other) and is_same_app(other, app)
    assert not is_same_app(app, msgspec.structs.replace(app, created_at_ms=6, secrets=("two",)))


def test_the_expiry_counts_from_the_clock_where_the_moment_differs() -> None:
    app = msgspec.structs.replace(APP, token_ttl_s=60)
    assert verify(mint(app, b"ann", NOW, NONCE, NOW + 7), here(app), NOW).expires_at_ms == NOW + 60_007


def test_a_secret_may_hold_any_bytes() -> None:
    app = msgspec.structs.replace(APP, secrets=("\udcff-secret",))
    assert verify(mint(app, b"ann", NOW, NONCE), here(app), NOW).user == b"ann"
    assert signing_key("\udcff") == hmac.digest(b"\xff", b"gate token signing key 1", "sha256")


def test_a_connection_of_one_app_takes_no_token_of_another() -> None:
    other = msgspec.structs.replace(APP, key="shop2")
    token = mint(other, b"ann", NOW, NONCE)
    assert verify(token, here(APP, other), NOW, only_app="shop2").user == b"ann"
    with pytest.raises(TokenRefused) as caught:
        verify(token, here(APP, other), NOW, only_app="shop")
    assert caught.value.fault == "app-unknown"
    assert str(caught.value) == "the Token does not belong to the App shop, which this connection uses"


def test_each_refusal_says_why() -> None:
    brief = msgspec.structs.replace(APP, token_ttl_s=1)
    texts = []
    for token, app in (
        ("gt1.AAAA", APP),
        (mint(APP, b"ann", NOW, NONCE), msgspec.structs.replace(APP, key="shop2")),
        (mint(APP, b"ann", NOW, NONCE), msgspec.structs.replace(APP, secrets=("other",))),
        (mint(brief, b"ann", NOW - 1_000, NONCE), brief),
    ):
        with pytest.raises(TokenRefused) as caught:
            verify(token, here(app), NOW)
        texts.append(str(caught.value))
    assert texts == [
        "this is not a Token",
        "the Token belongs to no App that is served here",
        "the Token's signature is wrong, or its secret was dropped",
        "the Token has expired",
    ]


def test_the_first_millisecond_of_all_is_an_expiry() -> None:
    app = msgspec.structs.replace(APP, token_ttl_s=1)
    assert refusal(mint(app, b"ann", 0, NONCE, -999), here(app), 1) == "expired"


def test_the_shortest_key_and_id_make_a_token() -> None:
    app = msgspec.structs.replace(APP, key="k")
    assert verify(mint(app, b"u", NOW, NONCE), here(app), NOW).user == b"u"


@pytest.mark.parametrize("secrets", [(), (f"{SEALED_PREFIX}AAAA",)])
def test_nothing_is_signed_without_an_open_secret(secrets: tuple[str, ...]) -> None:
    with pytest.raises(SecretsSealed, match="the secrets of App 'shop' can't be opened here: nothing can be signed"):
        mint(msgspec.structs.replace(APP, secrets=secrets), b"ann", NOW, NONCE)
