"""URLs that may hold a password: what every reader of one refuses, so that no part of a password reaches a message.

A password with a `/`, `?` or `#` that is not percent-encoded ends the host's part of a URL early. What is left of it then
stands where a port, a path or an option is looked for, and a message that names those would show it. Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

ENCODE = (
    "percent-encode what is special in the user's name and the password: %2F for /, %3F for ?, %23 for #, %40 for @"
)

_AUTHORITY = re.compile(r"[^/?#]*")


def split_url(text: str) -> SplitResult:
    """The parts of a URL with its port read; a `ValueError` whose text repeats nothing of it if it is misleading."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(ENCODE if "@" in text else "it is no URL") from None
    if parts.fragment or (parts.netloc and "@" in parts.path + parts.query):
        raise ValueError(ENCODE)
    return parts


class Host(NamedTuple):
    """One of the hosts of a URL; `port` is None where the URL has none."""

    name: str
    port: int | None


def split_hosts(text: str) -> tuple[SplitResult, list[Host]]:
    """As `split_url`, of a URL whose authority names several hosts, with a comma between them; the parts show the first."""
    scheme, separator, rest = text.partition("://")
    authority = _AUTHORITY.match(rest)[0]  # type: ignore[index]  # it matches any text
    credentials, at, hosts = authority.rpartition("@")
    first, *others = hosts.split(",")
    parts = split_url(f"{scheme}{separator}{credentials}{at}{first}{rest[len(authority) :]}")
    split = [parts, *(split_url(f"redis://{other}") for other in others)]
    if any(not each.hostname or each.port == 0 for each in split) or any(each.username for each in split[1:]):
        raise ValueError("each host must be a name or an address, with a port or without")
    return parts, [Host(unquote(each.hostname or ""), each.port) for each in split]
