"""Keys with scopes: whom a secret stands for, and what may become of a key."""

from __future__ import annotations

import msgspec
import pytest

from gate.core.app_keys import (
    MAX_KEYS,
    key_name,
    key_scopes,
    shown_key,
    with_finished_rotation,
    with_key,
    with_rotated_key,
    without_key,
)
from gate.core.app_secrets import caller_with, with_new_secret
from gate.core.app_settings import app_document
from gate.core.codec import pack_app, unpack_app
from gate.core.model import AppFacts
from gate.core.scopes import ALL_SCOPES, SCOPES, Caller, granted
from gate.errors import InvalidInput, NotFound, Refused, ScopeMissing

BARE = AppFacts(key="shop", secrets=("secret-1", "secret-0"))
ROUTER, EDGE, NEXT = "the-secret-of-the-router", "the-secret-of-the-edge", "the-next-secret-of-the-router"
APP = with_key(with_key(BARE, "router-1", ("check",), ROUTER, 1), "edge", ("presence", "check"), EDGE, 2)


def whose(facts: AppFacts, secret: str) -> Caller | None:
    return caller_with(facts, secret.encode())


def test_a_secret_stands_for_the_app_or_for_one_key() -> None:
    for secret in BARE.secrets:
        assert whose(APP, secret) == Caller("app", "shop", ALL_SCOPES)
    assert whose(APP, ROUTER) == Caller("key", "router-1", frozenset({"check"}))
    assert whose(APP, EDGE) == Caller("key", "edge", frozenset({"check", "presence"}))
    for wrong in ("", "secret", ROUTER[:-1], ROUTER + "x", APP.keys[0].digests[0], "router-1"):
        assert whose(APP, wrong) is None
    assert caller_with(APP, b"\xff") is None
    assert whose(BARE, ROUTER) is None


def test_a_rotation_accepts_both_secrets_until_it_is_finished() -> None:
    both = with_rotated_key(APP, "router-1", NEXT)
    assert whose(both, ROUTER) == whose(both, NEXT) == whose(APP, ROUTER)
    with pytest.raises(Refused, match="finish it first"):
        with_rotated_key(both, "router-1", "one-more-secret-of-it")
    finished = with_finished_rotation(both, "router-1")
    assert whose(finished, ROUTER) is None and whose(finished, NEXT) == whose(APP, ROUTER)
    assert with_finished_rotation(finished, "router-1") == finished, "safe to repeat"
    assert whose(finished, EDGE) == whose(APP, EDGE), "the others stay"


def test_a_removed_key_is_gone_and_its_name_is_free() -> None:
    gone = without_key(APP, "router-1")
    assert whose(gone, ROUTER) is None and [key.name for key in gone.keys] == ["edge"]
    again = with_key(gone, "router-1", ("users",), NEXT, 3)
    assert whose(again, NEXT) == Caller("key", "router-1", frozenset({"users"}))
    for change in (without_key, with_finished_rotation):
        with pytest.raises(NotFound, match="no key 'router-2'"):
            change(APP, "router-2")


@pytest.mark.parametrize("taken", [*BARE.secrets, ROUTER, EDGE])
def test_one_secret_is_one_credential(taken: str) -> None:
    facts = msgspec.structs.replace(APP, secrets=tuple(secret.ljust(20, "x") for secret in APP.secrets))
    taken = taken.ljust(20, "x")
    with pytest.raises(
        Refused, match=r"^the secret is one of this App's or of its keys already: choose another$"
    ) as refusal:
        with_key(facts, "third", ("check",), taken, 3)
    with pytest.raises(Refused):
        with_rotated_key(facts, "edge", taken)
    with pytest.raises(InvalidInput):
        with_new_secret(without_old(facts), taken)
    assert taken not in str(refusal.value)


def without_old(facts: AppFacts) -> AppFacts:
    """No rotation of the App's secret is under way, so another may begin."""
    return msgspec.structs.replace(facts, secrets=facts.secrets[:1], keys=(*facts.keys, *key_of(facts.secrets[1])))


def key_of(secret: str) -> tuple[object, ...]:
    return with_key(BARE, "old", ("check",), secret, 3).keys


def test_a_name_is_used_once_and_keys_are_bounded() -> None:
    with pytest.raises(Refused, match="'edge' already"):
        with_key(APP, "edge", ("check",), NEXT, 3)
    full = BARE
    for number in range(MAX_KEYS):
        full = with_key(full, f"key-{number}", ("check",), f"a-long-enough-secret-{number}", 3)
    with pytest.raises(Refused, match="at most 32 keys"):
        with_key(full, "one-more", ("check",), NEXT, 3)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "é", "x" * 65, "a\n", "%41"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        key_name(name)
    assert str(refusal.value) == "name: must be 1 to 64 of A-Z a-z 0-9 . _ -, and not . or .."


def test_names_that_are_accepted() -> None:
    for name in ("a", "router-1", "Edge_2.eu", "...", "x" * 64):
        assert key_name(name) == name


@pytest.mark.parametrize("secret", ["x" * 19, "a secret with spaces in it", "x" * 129, "naïve-secret-of-a-router"])
def test_a_short_secret_is_refused_for_a_key(secret: str) -> None:
    with pytest.raises(InvalidInput, match="must be 20 to 128"):
        with_key(BARE, "router-1", ("check",), secret, 1)


def test_scopes_are_named_once_and_admin_has_all() -> None:
    assert key_scopes(["users", "check", "users"]) == ("check", "users")
    for wrong, got in (
        ([], ""),
        (["all"], ", got 'all'"),
        (["check", ""], ", got ''"),
        (["x" * 41], f", got {'x' * 40!r}"),
    ):
        with pytest.raises(InvalidInput) as refusal:
            key_scopes(wrong)
        assert str(refusal.value) == f"scope: must be one or more of check, presence, users, admin{got}"
    assert granted(("admin",)) == ALL_SCOPES == set(SCOPES)
    for scope in ("check", "presence", "users"):
        assert granted((scope,)) == {scope}


def test_what_is_missing_is_named() -> None:
    caller = Caller("key", "edge", frozenset({"presence"}))
    caller.require(())
    caller.require(("presence",))
    with pytest.raises(ScopeMissing, match="no scope 'check': the key 'edge' has presence") as refusal:
        caller.require(("check", "presence"))
    assert (refusal.value.scope, refusal.value.key) == ("check", "edge")


def test_keys_are_stored_without_their_secrets_and_shown_without_digests() -> None:
    packed = pack_app(APP)
    assert unpack_app(packed) == APP
    assert ROUTER.encode() not in packed and EDGE.encode() not in packed
    assert b"keys" not in pack_app(BARE), "an App without keys is stored as before"
    assert with_key(BARE, "router-1", ("check",), ROUTER, 1).keys == APP.keys[:1]
    assert shown_key(APP.keys[0]) == {"name": "router-1", "scopes": ["check"], "created_at_ms": 1, "secret_count": 1}
    assert APP.keys[0].digests[0] not in str(app_document(APP))
    assert app_document(APP)["keys"] == [shown_key(key) for key in APP.keys]
