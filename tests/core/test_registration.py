from __future__ import annotations

import pytest

from gate.core.registration import name_is_too_long, portrait_is_too_long, registrable
from gate.errors import InvalidInput


@pytest.mark.parametrize("user", ["a", "Z9", "a+b|c=-_", "x" * 64])
def test_these_may_be_registered(user: str) -> None:
    assert registrable(user) == user.encode()


@pytest.mark.parametrize(
    "user", ["", "x" * 65, "a b", "a,b", "a\n", "a.b", "a@b", "a:b", "é", "用户", "\0", b"\xff", "a%", "/"]
)
def test_these_may_not(user: str | bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        registrable(user)
    assert caught.value.parameter == "userId"


def test_a_name_may_be_64_characters_or_128_bytes() -> None:
    assert not name_is_too_long("名" * 64) and not name_is_too_long("n" * 128)
    assert name_is_too_long("名" * 65) and name_is_too_long("n" * 129)
    assert not portrait_is_too_long("p" * 1_024) and portrait_is_too_long("é" * 513)
