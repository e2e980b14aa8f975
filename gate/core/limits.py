"""Rate limits: the names that an App setting may use, RongCloud's figures, and the text form of a setting.

A limit is calls a second to an endpoint, or to all endpoints with the same prefix: the name of `/user/blacklist/add.json` is
`user/blacklist/add`, and a call of it counts against a limit of that name, of `user/blacklist` and of `user`. Every limit that
covers the call applies. Two limits count per User: `client-user` is calls a second of `/client/`, and `client-user-asked` is
Users a second whose Presence is requested, since a request for a thousand costs a thousand times as much as for one. These two
have defaults, because end users are not trusted.

A name that is not in `LIMITABLE` is refused, since a misspelt limit would have no effect. Pure. Called by `gate.http`, which
counts, and by every caller that sets an App's `rate_limits`.
"""

from __future__ import annotations

from collections.abc import Mapping

from gate.errors import InvalidInput

EACH_CLIENT = "client-user"
EACH_CLIENT_ASKED = "client-user-asked"
# As many calls as frames on a WebSocket; and a list of a thousand every five seconds, which costs some 2 ms of a process.
CLIENT_DEFAULTS: Mapping[str, int] = {EACH_CLIENT: 50, EACH_CLIENT_ASKED: 200}
# Maximum of Users in one request. It is therefore the least capacity of the second limit, even if its rate is lower.
ASKED_AT_ONCE = 1_000
# Calls a second. More than a node serves, so a larger number is a mistake.
MAX_RATE = 1_000_000
PRESET = "rongcloud"
OFF = "off"

_A_HUNDRED = (
    "refresh", "info", "checkOnline", "block", "unblock", "block/query", "blacklist/add", "blacklist/remove",
    "blacklist/query", "whitelist/add", "whitelist/remove", "whitelist/query", "whitesetting/set", "whitesetting/query",
    "token/expire", "deactivate", "deactivate/query", "reactivate",
)  # fmt: skip
# RongCloud's table of 2026-01. It counts Users for `deactivate` and `reactivate`; Gate counts calls everywhere.
RONGCLOUD_LIMITS: Mapping[str, int] = {"user/getToken": 200} | {f"user/{name}": 100 for name in _A_HUNDRED}

_OTHERS = (
    "user", "user/query", "user/delusers", "user/chat", "user/chat/fb", "user/chat/fb/set", "user/chat/fb/querylist",
    "user/blacklist", "user/whitelist", "user/whitesetting", "user/token",
    "v1", "v1/check", "v1/explain", "v1/bans", "v1/mutes", "v1/blacklist", "v1/whitelist", "v1/whitelist-switch",
    "v1/users", "v1/tokens", "v1/bulk", "v1/audit", "v1/presence", "v1/events", "v1/gateways",
    "client", "client/v1/connect", "client/v1/blacklist", "client/v1/presence", EACH_CLIENT, EACH_CLIENT_ASKED,
)  # fmt: skip
# Every valid name of a limit.
LIMITABLE = frozenset((*RONGCLOUD_LIMITS, *_OTHERS))

_ALIASES = {"user/blocklist": "user/blacklist", "user/activate": "user/reactivate", "user/abandon": "user/deactivate"}


def limit_names(path: str) -> tuple[str, ...]:
    """Return the names of limits that cover an endpoint's path, the widest first. An alias of a path counts as that path."""
    # "/v1/bans/{user}" counts as "v1/bans": a parameter in the path is not part of the name.
    whole = path.strip("/").removesuffix(".json").partition("/{")[0]
    for alias, name in _ALIASES.items():
        if whole == alias or whole.startswith(alias + "/"):
            whole = name + whole[len(alias) :]
    words = whole.split("/")
    return tuple("/".join(words[:count]) for count in range(1, len(words) + 1))


def checked_limits(limits: Mapping[str, int]) -> dict[str, int]:
    """Return the limits. Raises `InvalidInput` unless each has a known name and a possible rate."""
    for name, rate in limits.items():
        if name not in LIMITABLE:
            raise InvalidInput("rate limits", f"{name[:80]!r} is not the name of a limit")
        if not 1 <= rate <= MAX_RATE:
            raise InvalidInput("rate limits", f"must be 1 to {MAX_RATE:,} calls a second, {name} was given {rate}")
    return dict(limits)


def parse_limits(text: str) -> dict[str, int]:
    """Parse `rongcloud`, `off`, or `NAME=RATE,NAME=RATE…`. A leading `rongcloud` can be changed by later parts."""
    if text == OFF:
        return {}
    limits: dict[str, int] = {}
    for part in text.split(","):
        name, assigned, rate = part.strip().partition("=")
        if name == PRESET and not assigned:
            limits |= RONGCLOUD_LIMITS
        # The length is checked before int(): Python refuses to parse very long numbers with another error.
        elif rate.isascii() and rate.isdigit() and len(rate) <= len(str(MAX_RATE)):
            limits[name] = int(rate)
        else:
            raise InvalidInput("rate limits", f"must be {PRESET}, {OFF} or NAME=RATE,…, got {part[:80]!r}")
    return checked_limits(limits)
