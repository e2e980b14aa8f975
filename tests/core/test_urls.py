"""URLs that may hold a password: what is read, and that no message repeats a part of it."""

from __future__ import annotations

import pytest

from gate.core.urls import Host, host_of, split_hosts, split_url


def test_a_url_is_split() -> None:
    parts = split_url("rediss://ann:w%2Fd@h:7/3?a=b")
    assert (parts.scheme, parts.username, parts.hostname, parts.port, parts.path) == ("rediss", "ann", "h", 7, "/3")
    assert split_url("unix:///run/a@b").path == "/run/a@b", "without an authority an @ is part of the path"


@pytest.mark.parametrize(
    "text",
    ["redis://u:pass/word@h", "redis://u:pa?word@h", "redis://u:pa#word@h", "redis://u:word@h:port", "redis://h#word",
     "redis://[word", "redis://h/?a=@word"],
)  # fmt: skip
def test_a_url_that_misleads_is_refused_without_its_words(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        split_url(text)
    assert "word@" not in str(refused.value)


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "\udcff", "%FF%FE", "a%00b"])
def test_a_host_that_can_not_be_looked_up_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="no host can have this name"):
        split_url(f"redis://{host}/0")
    with pytest.raises(ValueError, match="no host can have this name"):
        split_hosts(f"redis+cluster://h1,{host}:7")


@pytest.mark.parametrize("host", ["localhost", "xn--bcher-kva.example.", "bücher.example", "10.0.0.1", "::1", "a_b-c"])
def test_a_host_that_can_be_looked_up_stays_as_it_is(host: str) -> None:
    assert host_of(host) == host


def test_several_hosts() -> None:
    parts, hosts = split_hosts("redis+cluster://ann:w%40d@h1:7000,[::1]:7001,h%2F3/2?a=b")
    assert hosts == [Host("h1", 7_000), Host("::1", 7_001), Host("h/3", None)]
    assert (parts.scheme, parts.username, parts.password, parts.path, parts.query) == (
        "redis+cluster",
        "ann",
        "w%40d",
        "/2",
        "a=b",
    )
    assert split_hosts("redis://h")[1] == [Host("h", None)]
    assert split_hosts("redis://h1,h2/a://b")[1] == [Host("h1", None), Host("h2", None)], (
        "the first :// ends the scheme"
    )


@pytest.mark.parametrize(
    "text", ["redis://", "redis://,h", "redis://h,", "redis://h:0", "redis://h,i:0", "redis://a,b:x"]
)
def test_each_host_must_be_one(text: str) -> None:
    with pytest.raises(ValueError):
        split_hosts(text)


def test_a_later_user_name_is_part_of_the_first() -> None:
    parts, hosts = split_hosts("redis://u,v@h")
    assert (parts.username, hosts) == ("u,v", [Host("h", None)])
