from __future__ import annotations

import pytest

from gate.core.registration import profile_mistakes, registrable
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
    assert not list(profile_mistakes("名" * 64, "p" * 1_024)) and not list(profile_mistakes("n" * 128, ""))
    assert [member for member, _ in profile_mistakes("名" * 65, "é" * 513)] == ["name", "portrait"]
    assert [member for member, _ in profile_mistakes("n" * 129, None)] == ["name"]
    assert [member for member, _ in profile_mistakes(None, "é" * 513)] == ["portrait"]


def test_a_name_of_any_length_is_utf_8() -> None:
    assert list(profile_mistakes("\udcff", None)) == [("name", "is not UTF-8")]
    assert [member for member, _ in profile_mistakes("\udcff", "é" * 513)] == ["name", "portrait"]
