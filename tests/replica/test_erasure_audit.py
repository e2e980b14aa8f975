"""The proof of an erasure finds every place in a facts file that holds the id, of that App alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.errors import ReplicaMissing
from gate.replica.erasure_audit import occurrences
from tests.replica.ledger import Ledger, app_facts, said

ANN = b"ann"


def found(ledger: Ledger, user: bytes = ANN, app: str = "app") -> dict[str, tuple[int, bool]]:
    return {one.place: (one.times, one.is_documented) for one in occurrences(ledger.directory, app, user)}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """`ann` has facts and lists, and is on the lists of others, in both Apps; `an` and `xann` only look like her."""
    made = Ledger(tmp_path, 1, app_facts(), app_facts("other"))
    for app in ("app", "other"):
        made.commit(
            said("ban-imposed", ANN, app=app),
            said("blocked", ANN, b"m1", b"m2", app=app),
            said("admitted", ANN, b"m1", app=app),
            said("blocked", b"bob", ANN, b"an", app=app),
            said("blocked", b"zoe", ANN, app=app),
            said("admitted", b"bob", ANN, app=app),
            said("blocked", b"xann", b"xann", app=app),
        )
    return made


def test_every_place_is_found_and_no_other_app_s(ledger: Ledger) -> None:
    assert found(ledger) == {
        "its own record: other facts": (1, False),
        "its own blacklist": (2, False),
        "its own whitelist": (1, False),
        "its own record: that it is out of use, since when Tokens are valid": (1, True),
        "blacklists of others": (2, True),
        "whitelists of others": (1, True),
        "the journal of recent commits": (1, True),
    }
    ledger.close()


def test_after_its_erasure_only_documented_places_are_left(ledger: Ledger) -> None:
    ledger.commit(said("user-deactivated", ANN), said("ban-lifted", ANN))
    ledger.commit(
        said("unblocked", ANN, b"m1", b"m2"), said("unadmitted", ANN, b"m1"), said("user-erased", ANN, value=b"d")
    )
    places = found(ledger)
    assert [place for place, (_, is_documented) in places.items() if not is_documented] == []
    assert places["its own record: that it is out of use, since when Tokens are valid"] == (1, True)
    assert places["blacklists of others"] == (2, True)
    assert found(ledger, app="other")["its own blacklist"] == (2, False), "another App's User is as before"
    ledger.close()


def test_ids_that_look_like_it_are_other_ids(ledger: Ledger) -> None:
    assert found(ledger, b"an") == {"blacklists of others": (1, True)}
    assert found(ledger, b"nn") == {}
    assert found(ledger, ANN, app="gone") == {}
    ledger.close()


def test_without_facts_there_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(ReplicaMissing):
        occurrences(tmp_path, "app", ANN)
