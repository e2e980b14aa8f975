"""The socket of a port, for the RESP port and HTTP alike.

asyncio listens on `::` for IPv6 alone, where people expect what other servers do: both families. Called with the host and port
that an option names.
"""

from __future__ import annotations

import socket

EVERY_ADDRESS = "::"
_NEAR = {"0.0.0.0": "127.0.0.1", EVERY_ADDRESS: "::1"}


def near(host: str) -> str:
    """Where what listens on this host is reached on the same machine."""
    return _NEAR.get(host, host)


def near_address(address: str) -> str:
    """The same, of HOST:PORT."""
    host, _, port = address.rpartition(":")
    reached = near(host.strip("[]"))
    return f"[{reached}]:{port}" if ":" in reached else f"{reached}:{port}"


def dual_stack_socket(host: str, port: int, *, reuse_port: bool) -> socket.socket | None:
    """A bound socket that takes IPv4 and IPv6, for the host `::`; None for any other, which asyncio binds as it should."""
    if host != EVERY_ADDRESS:
        return None
    bound = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
