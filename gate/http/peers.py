"""Whose request it is, where proxies stand in front: the address for the throttle, the log, Sessions and webhooks.

Only a peer of `--trusted-proxies` is believed. Its `X-Forwarded-For`, or without one the `for=` of its `Forwarded`
(RFC 7239), is read from the right, past the addresses of trusted proxies; the first other one is the client's. What stands
left of it was written by the client, and is not read. Never both headers: a proxy that sets one may pass on a client's other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple

from aiohttp import web

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

MAX_HOPS = 32
"""Proxies in a row; more are a loop, or a client's own."""

_HEADER = "X-Forwarded-For"
_STANDARD = "Forwarded"
_ELEMENT, _PAIR = (re.compile(rf'(?:[^{mark}"]|"(?:[^"\\]|\\.)*(?:"|$))+') for mark in ",;")
"""What stands between commas, and between semicolons, that are in no quoted string."""
_ESCAPED = re.compile(r"\\(.)")
_HOP = re.compile(r"\[([^\]]+)\](?::\d{1,5})?|([0-9.]+):\d{1,5}|(.+)")
"""`[IPv6]`, with or without a port; `IPv4:port`; either one bare."""


class Origin(NamedTuple):
    """Of a request for which there is no `web.Request`: its peer, as the socket names it, and its headers."""

    peername: str | tuple[object, ...] | None
    headers: Any
    """As `web.Request.headers`."""

    @property
    def remote(self) -> str | None:
        """As `web.Request.remote`."""
        return str(self.peername[0]) if isinstance(self.peername, tuple) else self.peername


def client_address(request: web.Request | Origin, trusted: Sequence[Network]) -> str:
    """The client's address, or that of the last hop that is known; "" for a peer without one."""
    peer = request.remote or ""
    if not trusted:
        return peer
    hops = ",".join(request.headers.getall(_HEADER, [])).rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    if hops == [""]:
        hops = [element.get("for", "unknown") for element in _elements(request.headers.getall(_STANDARD, []))]
    return _behind(peer, hops, trusted)


def is_believed(request: web.Request, trusted: Sequence[Network]) -> bool:
    """Whether to use forwarded headers: the peer is a trusted proxy, or none is configured and forged values do no harm."""
    known = _parsed(request.remote or "")
    return not trusted or (known is not None and _is_trusted(known, trusted))


def forwarded_proto(request: web.Request) -> str:
    """The scheme that the client used, as the outermost proxy of a list says; "" if none does."""
    return _outermost(request, "X-Forwarded-Proto", "proto")


def forwarded_host(request: web.Request) -> str:
    """The host that the client asked for, likewise."""
    return _outermost(request, "X-Forwarded-Host", "host")


def _outermost(request: web.Request, header: str, parameter: str) -> str:
    listed = request.headers.get(header, "").partition(",")[0].strip()
    if listed:
        return listed.lower()
    elements = _elements(request.headers.getall(_STANDARD, []))
    return next((element[parameter] for element in elements if parameter in element), "").lower()


def _elements(values: Sequence[str]) -> list[dict[str, str]]:
    """The last `MAX_HOPS` elements of a `Forwarded`, by parameter in lower case; quoted commas and semicolons are text."""
    elements = []
    for element in _ELEMENT.findall(",".join(values))[-MAX_HOPS:]:
        pairs = (pair.partition("=") for pair in _PAIR.findall(element))
        elements.append({name.strip().lower(): _unquoted(value.strip()) for name, _, value in pairs if value})
    return elements


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] == '"'
    return _ESCAPED.sub(r"\1", value[1:-1]) if quoted else value


def _behind(peer: str, hops: Sequence[str], trusted: Sequence[Network]) -> str:
    known = _parsed(peer)
    if known is None:
        return peer
    for hop in reversed(hops):
        if not _is_trusted(known, trusted):
            break
        address = _parsed(hop.strip(" \t\"'"))
        if address is None:  # as `unknown`: the client of this proxy is not known
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
