"""Rate limits: what an App setting may name, RongCloud's own figures, and how a setting is written and read.

A limit is calls a second to an endpoint, or to all endpoints that begin alike: the name of `/user/blacklist/add.json` is
`user/blacklist/add`, and a call of it counts against a limit of that name, of `user/blacklist` and of `user`. An App is limited
by each of its limits that covers the call. Two are apart, and hold for one and the same User: `client-user`, calls a second of
`/client/`, and `client-user-asked`, Users a second whose Presence it asks for, since a question about a thousand costs a
thousand times one. Those two are in force unless an App sets others: end users are strangers.

A name that is not in `LIMITABLE` is refused rather than kept, since a misspelt one would limit nothing. Pure. Called by
`gate.http`, which counts, and by whatever sets an App's `rate_limits`.
"""

from __future__ import annotations

from collections.abc import Mapping

from gate.errors import InvalidInput

EACH_CLIENT = "client-user"
EACH_CLIENT_ASKED = "client-user-asked"
CLIENT_DEFAULTS: Mapping[str, int] = {EACH_CLIENT: 50, EACH_CLIENT_ASKED: 200}
"""As many calls as frames on a WebSocket; and a list of a thousand every five seconds, which is some 2 ms of a process."""
ASKED_AT_ONCE = 1_000
"""Users that one question may name at the most, so what the second limit holds when it is full, be its rate lower."""
MAX_RATE = 1_000_000
"""Calls a second; more than a node serves, so that a larger number is a mistake."""
PRESET = "rongcloud"
OFF = "off"

_A_HUNDRED = (
    "refresh", "info", "checkOnline", "block", "unblock", "block/query", "blacklist/add", "blacklist/remove",
    "blacklist/query", "whitelist/add", "whitelist/remove", "whitelist/query", "whitesetting/set", "whitesetting/query",
    "token/expire", "deactivate", "deactivate/query", "reactivate",
)  # fmt: skip
RONGCLOUD_LIMITS: Mapping[str, int] = {"user/getToken": 200} | {f"user/{name}": 100 for name in _A_HUNDRED}
"""Its rate table of 2026-01. It counts Users, not calls, for `deactivate` and `reactivate`; Gate counts calls everywhere."""

_OTHERS = (
    "user", "user/query", "user/delusers", "user/chat", "user/chat/fb", "user/chat/fb/set", "user/chat/fb/querylist",
    "user/blacklist", "user/whitelist", "user/whitesetting", "user/token",
    "v1", "v1/check", "v1/explain", "v1/bans", "v1/mutes", "v1/blacklist", "v1/whitelist", "v1/whitelist-switch",
    "v1/users", "v1/tokens", "v1/bulk", "v1/audit", "v1/presence", "v1/events", "v1/gateways",
    "client", "client/v1/connect", "client/v1/blacklist", "client/v1/presence", EACH_CLIENT, EACH_CLIENT_ASKED,
)  # fmt: skip
LIMITABLE = frozenset((*RONGCLOUD_LIMITS, *_OTHERS))
"""Every name that a limit may have."""

_ALIASES = {"user/blocklist": "user/blacklist", "user/activate": "user/reactivate", "user/abandon": "user/deactivate"}


def limit_names(path: str) -> tuple[str, ...]:
    """The names of limits that cover an endpoint's path, the widest first. Other names of a path count as that path."""
    whole = path.strip("/").removesuffix(".json").partition("/{")[0]
    for alias, name in _ALIASES.items():
        if whole == alias or whole.startswith(alias + "/"):
            whole = name + whole[len(alias) :]
    words = whole.split("/")
    return tuple("/".join(words[:count]) for count in range(1, len(words) + 1))


def checked_limits(limits: Mapping[str, int]) -> dict[str, int]:
    """The limits, if each has a known name and a possible rate."""
    for name, rate in limits.items():
        if name not in LIMITABLE:
            raise InvalidInput("rate limits", f"there is nothing called {name[:80]!r} to limit")
        if not 1 <= rate <= MAX_RATE:
            raise InvalidInput("rate limits", f"must be 1 to {MAX_RATE:,} calls a second, {name} was given {rate}")
    return dict(limits)


def parse_limits(text: str) -> dict[str, int]:
    """`rongcloud`, `off`, or `NAME=RATE,NAME=RATE…`, where `rongcloud` may stand first and be changed by what follows."""
    if text == OFF:
        return {}
    limits: dict[str, int] = {}
    for part in text.split(","):
        name, assigned, rate = part.strip().partition("=")
        if name == PRESET and not assigned:
            limits |= RONGCLOUD_LIMITS
        elif rate.isascii() and rate.isdigit() and len(rate) <= len(str(MAX_RATE)):
            limits[name] = int(rate)
        else:
            raise InvalidInput("rate limits", f"must be {PRESET}, {OFF} or NAME=RATE,…, got {part[:80]!r}")
    return checked_limits(limits)
