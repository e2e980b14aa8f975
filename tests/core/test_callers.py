"""Who calls, and what each may do: scopes of credentials, roles and Apps of operators, and the facts behind a Session."""

from __future__ import annotations

import pytest

from gate.core.model import AppFacts
from gate.core.operators import MAX_APPS, Operator, operator_apps
from gate.core.presence import Verified
from gate.core.scopes import Caller, app_caller, user_caller
from gate.core.sessions import OpenSession
from gate.errors import InvalidInput, ScopeMissing

APP = AppFacts(key="shop", secrets=("secret",))


def test_a_user_has_no_scope_and_its_id_is_shown_as_text() -> None:
    assert user_caller(b"ann \xff") == Caller("user", "ann \\xff", frozenset())
    with pytest.raises(ScopeMissing):
        user_caller(b"ann").require(("check",))
    app_caller("shop").require(("check", "presence", "users", "admin"))


def test_an_operator_reaches_its_apps_alone_or_all_of_them() -> None:
    limited = Operator(name="eve", role="admin", password_hash="", created_at_ms=0, apps=("shop",))
    assert limited.reaches("shop") and not limited.reaches("forum")
    everywhere = Operator(name="ann", role="viewer", password_hash="", created_at_ms=0)
    assert everywhere.reaches("shop")
    nowhere = Operator(name="bob", role="viewer", password_hash="", created_at_ms=0, apps=())
    assert not nowhere.reaches("shop")


def test_the_apps_of_an_operator_are_sorted_valid_and_bounded() -> None:
    assert operator_apps(["shop", "forum", "shop"]) == ("forum", "shop")
    assert len(operator_apps([f"app-{nth}" for nth in range(MAX_APPS)])) == MAX_APPS
    with pytest.raises(InvalidInput) as caught:
        operator_apps([f"app-{nth}" for nth in range(MAX_APPS + 1)])
    assert str(caught.value) == "app: an operator is limited to 100 Apps at most, got 101"
    with pytest.raises(InvalidInput):
        operator_apps(["no key"])


def test_a_session_keeps_the_position_of_the_facts_that_verified_it() -> None:
    session = OpenSession(APP, b"edge-1", 1, b"ann", "id", "iOS", "", 5, "", 0)
    session.verify(Verified(APP, b"ann", 5, "epoch", 7))
    assert (session.log_epoch, session.log_seq) == ("epoch", 7)
