"""Redis URLs: no message of a parser repeats any part of one, since it may be part of a password."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.config import read_config
from gate.errors import InvalidConfig
from gate.store.address import parse_address

PASSWORD = "Hunter2Xyz"


@pytest.mark.parametrize("special", [*list("/?#[]@:%\\ "), "//", "@/", "#/", "/0?"])
@pytest.mark.parametrize(
    "form",
    [
        "redis://user:{}@host:6379/0",
        "redis://:{}@host",
        "rediss://u:{}@[::1]:1/3",
        "unix://:{}@/tmp/s",
        "redis+sentinel://user:{}@one:1,two:2/facts/0",
        "rediss+sentinel://:{}@one,two/facts",
        "redis+cluster://user:{}@one,two",
        "redis+unknown://user:{}@one,two",
    ],
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


@pytest.mark.parametrize("special", [*list("/?#[]@:%\\ &;=+,"), "&timeout_ms=", "&x="])
@pytest.mark.parametrize("before", [PASSWORD, f"{PASSWORD[:3]}%2F"])
def test_a_password_of_the_sentinels_is_never_repeated(before: str, special: str) -> None:
    url = f"redis+sentinel://one:1,two:2/facts?sentinel_password={before}{special}{PASSWORD.lower()}"
    for read in (parse_address, lambda url: read_config({"redis": url}, {})):
        try:
            read(url)
        except InvalidConfig as fault:
            assert PASSWORD[:4].lower() not in str(fault).lower()
    with contextlib.suppress(InvalidConfig):
        assert PASSWORD[:4].lower() not in parse_address(url).shown.lower()


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


def test_sentinels_are_read_and_shown() -> None:
    address = parse_address(
        "rediss+sentinel://us%40er:p%2Fa,b@one:1,[::1]:2,three/my-facts.1/3"
        "?sentinel_username=watch&sentinel_password=a+b%26c&timeout_ms=900"
    )
    assert address.shown == "rediss+sentinel://us@er:***@one:1,[::1]:2,three:26379/my-facts.1/3"
    server = address.at("::2", 7)
    assert server.shown == "rediss://us@er:***@[::2]:7/3"
    assert (server.password, server.timeout_ms, server.tls) == ("p/a,b", 900, True)
    assert [(one.host, one.port) for one in address.each_sentinel] == [("one", 1), ("::1", 2), ("three", 26_379)]
    assert {(one.username, one.password, one.db, one.tls) for one in address.each_sentinel} == {
        ("watch", "a+b&c", 0, True)
    }


def test_servers_of_a_cluster_are_read_and_shown() -> None:
    address = parse_address("rediss+cluster://us%40er:p%2Fa,b@one:1,[::1]:2,three?timeout_ms=900")
    assert address.shown == "rediss+cluster://us@er:***@one:1,[::1]:2,three:6379"
    assert [(one.host, one.port) for one in address.each_seed] == [("one", 1), ("::1", 2), ("three", 6_379)]
    for one in address.each_seed:
        assert (one.username, one.password, one.tls, one.timeout_ms) == ("us@er", "p/a,b", True, 900)
        assert one.is_clustered and not one.seeds
        assert one.at("four", 4).is_clustered


def test_sentinels_without_credentials_get_none_of_the_servers() -> None:
    (one,) = parse_address("redis+sentinel://user:secret@one/facts").each_sentinel
    assert (one.username, one.password) == ("", "")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis+sentinel://one:1,two:2", "MASTER-NAME"),
        ("redis+sentinel://one:1,two:2/", "MASTER-NAME"),
        ("redis+sentinel://one:1,/facts", "each host must be a name or an address"),
        ("redis+sentinel://one:0/facts", "each host must be"),
        ("redis+sentinel://one:x,two/facts", "must read redis://"),
        ("redis+sentinel://one,two:99999/facts", "must read redis://"),
        ("redis+sentinel://one/facts/first", "the database in the Redis URL must be a small number"),
        ("redis+sentinel://one/fa%20cts", "the master's name has letters"),
        ("redis+sentinel://one/facts?sentinel_username=u", "no sentinel_password"),
        ("redis+sentinel://one/facts?sentinel_password=", "no sentinel_password"),
        ("redis+sentinel://one/facts?ssl_ca_certs=/x", "ssl_ca_certs, which is for rediss:// only"),
        ("redis://one/0?sentinel_password=x", "sentinel_password, which is for redis+sentinel:// only"),
        ("redis://one,two/0", "must read redis://"),
        ("redis+cluster://one:7000,two:7001/0", "a Redis Cluster has no databases"),
        ("rediss+cluster://u:p@one:7000?db=1", "a Redis Cluster has no databases"),
        ("redis+cluster://one:7000,", "each host must be a name or an address"),
        ("redis+cluster://one?sentinel_password=x", "sentinel_password, which is for redis+sentinel:// only"),
    ],
)
def test_a_topology_that_can_not_be_read_is_refused(url: str, named: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        parse_address(url)
    assert named in str(refused.value)
