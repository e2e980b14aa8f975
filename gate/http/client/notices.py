"""What the server sends on a WebSocket by itself, as declared messages. The npm package has its types from these.

Called by `websocket` and `watcher`; `scripts/client_types.py` writes `client/src/messages.ts` from them.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gate.http.fields import IdJson
from gate.http.v1.presence import UserPresenceShown


class Notice(Struct, kw_only=True, tag_field="type"):
    """Any of them."""


class Welcome(Notice, tag="welcome"):
    """The first message: the User is online. `token_expires` (Unix ms) is absent if the Token never expires."""

    session: str
    user: IdJson
    platform: str
    ping_ms: int
    token_expires: int | UnsetType = UNSET


class TokenEnding(Notice, tag="token-ending"):
    """The Token expires in `in_ms`, at `expires` (Unix ms): send a newer one."""

    expires: int
    in_ms: int


class PresenceChanged(Notice, tag="presence-changed"):
    """The Presence of watched Users as it is now, those that changed. After the feed was lost: of all of them."""

    presence: list[UserPresenceShown]


class WatchEnded(Notice, tag="watch-ended"):
    """Nothing is watched any more, since the Token is not accepted now. Send a newer one, and watch again."""

    error: str
    message: str


class Closing(Notice, tag="closing"):
    """The last message. `until` (Unix ms, null: without end) is that of a Ban."""

    reason: str
    code: int
    message: str
    reconnect: bool
    reconnect_ms: int | None
    until: int | UnsetType | None = UNSET


NOTICES: tuple[type[Notice], ...] = (Welcome, TokenEnding, PresenceChanged, WatchEnded, Closing)


def presence_changed(shown: list[Any]) -> bytes:
    """`PresenceChanged` of Users that are JSON already (`msgspec.Raw`)."""
    return msgspec.json.encode({"type": "presence-changed", "presence": shown})
