"""The signature, on the vectors that RongCloud's documents and recordings agree on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from multidict import CIMultiDict

from gate.core.model import AppFacts
from gate.core.signature import signature_of
from gate.errors import InvalidInput
from gate.http import auth
from gate.http.auth import fast_caller, signed_headers
from gate.http.errors import CredentialsWrong
from gate.replica.reading import Reading
from tests.http.world import World, basic


@pytest.mark.parametrize(
    ("secret", "nonce", "timestamp", "signature"),
    [
        ("Y1W2MeFwwwRxa0", "14314", "1408706337", "e107e3819638b81a00383951d1d871197910ffe6"),
        ("Y1W2MeFwwwRxa0", "14314", "1408710653000", "30be0bbca9c9b2e27578701e9fda2358a814c88f"),
        ("your-own-app-secret", "6JdWufDkiLqyeRU5", "1665601025006", "5c9891b71dbf07e37b69af7c17b4143ea5bb10d3"),
    ],
)
def test_the_documented_vectors(secret: str, nonce: str, timestamp: str, signature: str) -> None:
    assert signature_of(secret, nonce, timestamp) == signature


PLAIN = {"App-Key": "k", "Nonce": "n", "Timestamp": "1", "Signature": "s"}


@pytest.mark.parametrize("spelled", [str, str.lower, str.upper])
@pytest.mark.parametrize("prefix", ["", "RC-"])
def test_both_names_of_each_header_in_any_case(prefix: str, spelled: type[str]) -> None:
    sent = CIMultiDict({spelled(prefix + name): value for name, value in PLAIN.items()})
    assert tuple(signed_headers(sent)) == ("k", "n", "1", "s")


@pytest.mark.parametrize("missing", list(PLAIN))
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_a_missing_header_is_named(missing: str, how: str) -> None:
    sent = CIMultiDict({**PLAIN, missing: ""})
    if how == "absent":
        del sent[missing]
    with pytest.raises(InvalidInput) as caught:
        signed_headers(sent)
    assert (caught.value.parameter, caught.value.problem) == (missing, "is required")


async def test_a_header_that_was_right_is_remembered_with_its_settings(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "PROVEN", {})
    monkeypatch.setattr(auth, "MAX_PROVEN", 3)
    replica = Reading(world.node.directory)

    def ask(headers: Mapping[str, str]) -> AppFacts | None:
        with replica as snapshot:
            called = fast_caller(CIMultiDict(headers), snapshot)
            return None if called is None else called[0].app

    def proven(headers: Mapping[str, str]) -> AppFacts | None:
        found = auth.PROVEN.get(headers["Authorization"])
        return None if found is None else found.facts

    right, wrong = basic(world.app), basic(world.app, "secret-2")
    with pytest.raises(CredentialsWrong):
        ask(wrong)
    assert proven(wrong) is proven(right) is None
    settings = ask(right)
    assert settings is not None
    assert proven(right) is settings is ask(right), "one object for as long as the record is the same"
    before = world.app
    await world.set_app(AppFacts(key=before.key, secrets=("secret-2", "secret-1"), created_at_ms=before.created_at_ms))
    with pytest.raises(CredentialsWrong):
        ask(basic(before, "secret-3"))
    assert proven(right) is settings, "of before the change"
    await world.set_app(before)
    again = ask(right)
    assert again == settings and proven(right) is again is not settings, "the record was another one meanwhile"
    long = {"Authorization": basic(before)["Authorization"].replace(" ", " " * 257)}
    assert ask(long) is again and proven(long) is None
    for spaces in range(1, 6):
        ask({"Authorization": basic(before)["Authorization"].replace(" ", " " * spaces)})
    assert len(auth.PROVEN) <= 3
    replica.close()
