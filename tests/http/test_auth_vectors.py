"""The signature, on the vectors that RongCloud's documents and recordings agree on."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from gate.core.signature import signature_of
from gate.errors import InvalidInput
from gate.http.auth import signed_headers


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
