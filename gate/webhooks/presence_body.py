"""What a presence webhook receives: a JSON array of changes, the oldest first, as RongCloud tells them.

    userid     the User; {"b64": "..."} for an id that is not UTF-8, as everywhere in Gate's JSON
    status     "0" online, "1" offline, "2" logged out
    os         the platform, as the client named it
    time       when it changed, Unix ms; a departure's is the moment of leaving, not of its announcement
    clientIp   as the Gateway told it
    sessionId  the Session that came, or the last that left

Each platform's coming and going is told, the User's first and last ones too. Kicks are not: they are for Gateways. Pure.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

import msgspec

from gate.core.presence import Event, Kind

JSON_TYPE = "application/json"
ONLINE, OFFLINE, LOGGED_OUT = "0", "1", "2"

STATUS_OF: dict[Kind, str] = {
    "online": ONLINE,
    "platform-online": ONLINE,
    "offline": OFFLINE,
    "platform-offline": OFFLINE,
}
"""Of each kind that is told; a departure because of `logout` is `LOGGED_OUT`."""


def told_of(events: Sequence[Event]) -> list[Event]:
    """Those that the receiver is told."""
    return [event for event in events if event.kind in STATUS_OF]


def body_of(events: Sequence[Event]) -> bytes:
    """The array; all of the events are of kinds that are told."""
    return msgspec.json.encode([_change(event) for event in events])


def _change(event: Event) -> dict[str, object]:
    status = STATUS_OF[event.kind]
    return {
        "userid": _id(event.user),
        "status": LOGGED_OUT if status == OFFLINE and event.why == "logout" else status,
        "os": event.platform,
        "time": event.since_ms,
        "clientIp": event.ip,
        "sessionId": event.session,
    }


def _id(user: bytes) -> str | dict[str, str]:
    try:
        return user.decode()
    except UnicodeDecodeError:
        return {"b64": b64encode(user).decode()}
