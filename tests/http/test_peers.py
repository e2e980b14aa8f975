"""Whose address counts: the peer's, or the last one in front of the proxies that are trusted."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from gate.http.peers import MAX_HOPS, client_address
from harness.servers import RedisServer
from harness.websocket import connect
from tests.http.test_client_blacklist import token_of
from tests.http.world import running_world

PROXIES = tuple(map(ip_network, ("10.0.0.0/8", "127.0.0.0/8", "2001:db8:1::/48")))


class Request:
    """What is read of one."""

    def __init__(self, remote: str | None, *values: str, standard: tuple[str, ...] = ()) -> None:
        self._standard = list(standard)
        self.remote = remote
        self.headers = self
        self._values = list(values)

    def getall(self, name: str, default: list[str]) -> list[str]:
        if name == "Forwarded":
            return self._standard or default
        assert name == "X-Forwarded-For"
        return self._values or default


@pytest.mark.parametrize(
    ("peer", "values", "address"),
    [
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7, 10.2.3.4"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.3,10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("10.0.0.1", ['"[2001:db8::7]:4711"'], "2001:db8::7"),
        ("10.0.0.1", ["[2001:DB8::7]"], "2001:db8::7"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["198.51.100.7, 2001:db8:1::5"], "198.51.100.7"),
        ("10.0.0.1", ["fe80::1%eth0"], "fe80::1"),
        ("10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [", ,"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4.5, 0x7f.1, \0, [, ]"], "10.0.0.1"),
        ("10.0.0.1", [", ".join(["198.51.100.7"] + ["10.0.0.2"] * MAX_HOPS)], "10.0.0.2"),
        ("10.0.0.1", ["9" * 8_000], "10.0.0.1"),
        (None, ["198.51.100.7"], ""),
    ],
)
def test_the_last_address_that_is_no_proxy_counts(peer: str | None, values: list[str], address: str) -> None:
    assert client_address(Request(peer, *values), PROXIES) == address  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "address"),
    [
        (["for=198.51.100.7"], "198.51.100.7"),
        (["For=203.0.113.9, for=198.51.100.7;proto=https;by=10.0.0.9"], "198.51.100.7"),
        (["for=203.0.113.9", 'proto=https; FOR="198.51.100.7:4711", for=10.2.3.4'], "198.51.100.7"),
        (['for="[2001:db8::7]:4711"'], "2001:db8::7"),
        (['for="203.0.113.9, for=203.0.113.8";host="a;b,c", for=198.51.100.7'], "198.51.100.7"),
        (['for="198.51.100.\\7"'], "198.51.100.7"),
        (["for=198.51.100.7, for=unknown"], "10.0.0.1"),
        (["for=198.51.100.7, proto=https"], "10.0.0.1"),
        (["for=198.51.100.7, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
        ([",;=,for"], "10.0.0.1"),
        (['"' * 4_000 + "," * 4_000], "10.0.0.1"),
    ],
)
def test_the_standard_header_is_read_as_its_rfc_says(values: list[str], address: str) -> None:
    assert client_address(Request("10.0.0.1", standard=tuple(values)), PROXIES) == address  # type: ignore[arg-type]
    both = Request("10.0.0.1", "192.0.2.5", standard=tuple(values))
    assert client_address(both, PROXIES) == "192.0.2.5"  # type: ignore[arg-type]
    untrusted = Request("192.0.2.1", standard=tuple(values))
    assert client_address(untrusted, PROXIES) == "192.0.2.1"  # type: ignore[arg-type]


def test_without_trusted_proxies_the_header_is_ignored() -> None:
    assert client_address(Request("10.0.0.1", "198.51.100.7"), ()) == "10.0.0.1"  # type: ignore[arg-type]


async def test_a_session_and_the_log_have_the_clients_address(
    tmp_path: Path, private_redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_world(private_redis.url, tmp_path, trusted_proxies=PROXIES) as behind:
        proxied = {"X-Forwarded-For": "198.51.100.7"}
        for user, headers, address in (("ann", proxied, "198.51.100.7"), ("bob", {}, "127.0.0.1")):
            client = await connect(behind.url, token_of(behind.app, user), headers=headers)
            [session] = (await behind.v1("GET", f"users/{user}/sessions")).body["sessions"]
            assert session["ip"] == address
            await behind.v1("POST", f"users/{user}/kick", {})
            await client.closed()
            client.drop()
            capsys.readouterr()
            await behind.send("GET", "/nowhere", headers=headers)
            assert f"client={address} " in capsys.readouterr().out
