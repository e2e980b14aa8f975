"""Redis URLs: no message of a parser repeats any part of one, since it may be part of a password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.config import read_config
from gate.errors import InvalidConfig
from gate.store.address import parse_address

PASSWORD = "Hunter2Xyz"


@pytest.mark.parametrize("special", [*list("/?#[]@:%\\ "), "//", "@/", "#/", "/0?"])
@pytest.mark.parametrize(
    "form", ["redis://user:{}@host:6379/0", "redis://:{}@host", "rediss://u:{}@[::1]:1/3", "unix://:{}@/tmp/s"]
)
def test_a_password_that_is_not_encoded_is_never_repeated(form: str, special: str) -> None:
    for password in (
        f"{PASSWORD}{special}",
        f"{special}{PASSWORD}",
        f"12{special}{PASSWORD}",
        f"{PASSWORD}{special}34",
    ):
        url = form.format(password)
        for read in (parse_address, lambda url: read_config({"redis": url}, {})):
            try:
                read(url)
            except InvalidConfig as fault:
                assert not any(PASSWORD[at : at + 4] in str(fault) for at in range(len(PASSWORD) - 3)), str(fault)
        try:
            address = parse_address(url)
        except InvalidConfig:
            continue
        assert PASSWORD not in address.shown and "12" not in address.host
        assert PASSWORD in address.password, "part of the password was taken for something else"


@given(st.text(alphabet="aB1/?#[]@:%&= .", max_size=20))
def test_any_text_is_read_or_refused_without_repeating_it(text: str) -> None:
    url = f"redis://u:{PASSWORD}{text}@host:6379/0"
    try:
        address = parse_address(url)
    except InvalidConfig as fault:
        assert PASSWORD not in str(fault)
    else:
        assert PASSWORD not in address.shown
        assert address.password.startswith(PASSWORD)


def test_an_encoded_password_is_what_it_says() -> None:
    address = parse_address("redis://us%40er:p%2Fa%3Fs%23s@[::1]:7/3")
    assert (address.username, address.password, address.host, address.port, address.db) == (
        "us@er",
        "p/a?s#s",
        "::1",
        7,
        3,
    )
