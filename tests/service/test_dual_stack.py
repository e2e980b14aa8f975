"""IPv6 literals: `[::1]:PORT` is that address, `[::]:PORT` every address of both families, as other servers have it."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from harness.ports import free_port
from harness.service import Services


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def pong(host: str, port: int) -> bool:
    with socket.create_connection((host, port), 5) as peer:
        peer.sendall(b"PING\r\n")
        return peer.recv(64).startswith((b"+PONG", b"-NOAUTH"))


def test_every_address_is_that_of_both_families(start_service: Services) -> None:
    http, resp = free_port(), free_port()
    service = start_service.start("--http", f"[::]:{http}", "--resp", f"[::]:{resp}", wait=False)
    service.wait_for_output(f"gate ready http=[::]:{http} resp=[::]:{resp}")
    for host in ("127.0.0.1", "::1"):
        assert pong(host, resp)
        named = f"[{host}]" if ":" in host else host
        with urllib.request.urlopen(f"http://{named}:{http}/readyz", timeout=5) as answer:
            assert answer.status == 200


def test_one_address_of_ipv6(start_service: Services) -> None:
    http, resp = free_port(), free_port()
    service = start_service.start("--http", f"[::1]:{http}", "--resp", f"[::1]:{resp}", wait=False)
    service.wait_for_output(f"gate ready http=[::1]:{http} resp=[::1]:{resp}")
    assert pong("::1", resp)
    with pytest.raises(ConnectionRefusedError):
        pong("127.0.0.1", resp)
