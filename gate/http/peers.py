"""Whose request it is, where proxies stand in front: the address for the throttle, the log, Sessions and webhooks.

Only a peer of `--trusted-proxies` is believed. Its `X-Forwarded-For` is read from the right, past the addresses of trusted
proxies; the first other one is the client's. What stands left of it was written by the client, and is not read. `Forwarded`
(RFC 7239) is not read either: proxies that set it set `X-Forwarded-For` too, and one source can't contradict itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp import web

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

MAX_HOPS = 32
"""Proxies in a row; more are a loop, or a client's own."""

_HEADER = "X-Forwarded-For"
_HOP = re.compile(r"\[([^\]]+)\](?::\d{1,5})?|([0-9.]+):\d{1,5}|(.+)")
"""`[IPv6]`, with or without a port; `IPv4:port`; either one bare."""


def client_address(request: web.Request, trusted: Sequence[Network]) -> str:
    """The client's address, or that of the last hop that is known; "" for a peer without one."""
    peer = request.remote or ""
    return _behind(peer, request.headers.getall(_HEADER, []), trusted) if trusted else peer


def _behind(peer: str, values: Sequence[str], trusted: Sequence[Network]) -> str:
    known = _parsed(peer)
    if known is None:
        return peer
    for hop in reversed(",".join(values).rsplit(",", MAX_HOPS)[-MAX_HOPS:] if values else []):
        if not _is_trusted(known, trusted):
            break
        address = _parsed(hop.strip(" \t\"'"))
        if address is None:  # as `unknown`: whoever is in front of this proxy can't be told from it
            break
        known = address
    return str(known)


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _parsed(hop: str) -> Address | None:
    match = _HOP.fullmatch(hop)
    if match is None:
        return None
    try:
        address = ip_address((match[1] or match[2] or match[3]).partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
