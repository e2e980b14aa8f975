"""URLs that may hold a password: every parser uses these functions, so that no part of a password gets into a message.

A password with a `/`, `?` or `#` that is not percent-encoded ends the authority of a URL early. The rest of the password is
then parsed as a port, a path or an option, and a message that names those would show it. Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

ENCODE = (
    "percent-encode special characters in the user name and the password: %2F for /, %3F for ?, %23 for #, %40 for @"
)

_AUTHORITY = re.compile(r"[^/?#]*")


def split_url(text: str) -> SplitResult:
    """Split a URL and parse its port. The text of its `ValueError` repeats nothing of a misleading URL."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # the property raises ValueError for an invalid port
    except ValueError:
        raise ValueError(ENCODE if "@" in text else "it is not a URL") from None
    # An "@" after the authority means that a special character in the password ended it early.
    if parts.fragment or (parts.netloc and "@" in parts.path + parts.query):
        raise ValueError(ENCODE)
    host_of(unquote(parts.hostname or ""))
    return parts


def host_of(text: str) -> str:
    """The name or address of a host. Raises `ValueError` for a text that the resolver would not even look up."""
    try:
        text.encode("idna")
    except UnicodeError:  # two dots in a row, a part of more than 63 characters, bytes that are not UTF-8
        raise ValueError("no host can have this name") from None
    if "\0" in text:
        raise ValueError("no host can have this name")
    return text


class Host(NamedTuple):
    """One of the hosts of a URL; `port` is None if the URL has none."""

    name: str
    port: int | None


def split_hosts(text: str) -> tuple[SplitResult, list[Host]]:
    """Split a URL whose authority names several hosts, separated by commas. The returned parts show the first host."""
    scheme, separator, rest = text.partition("://")
    authority = _AUTHORITY.match(rest)[0]  # type: ignore[index]  # it matches any text
    credentials, at, hosts = authority.rpartition("@")
    first, *others = hosts.split(",")
    parts = split_url(f"{scheme}{separator}{credentials}{at}{first}{rest[len(authority) :]}")
    # urlsplit knows one host per URL, so each of the others is parsed as a URL of its own.
    split = [parts, *(split_url(f"redis://{other}") for other in others)]
    if any(not each.hostname or each.port == 0 for each in split):
        raise ValueError("each host must be a name or an address, with a port or without")
    return parts, [Host(unquote(each.hostname or ""), each.port) for each in split]
