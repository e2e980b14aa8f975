"""The body of a presence webhook: a JSON array of changes, oldest first, in RongCloud's format.

    userid     the User; {"b64": "..."} for an id that is not UTF-8, as everywhere in Gate's JSON
    status     "0" online, "1" offline, "2" logged out
    os         the platform, as the client named it
    time       when it changed, Unix ms; for a departure, the moment of leaving rather than of its announcement
    clientIp   as the Gateway reported it
    sessionId  the Session that came, or the last that left

The array has each platform's coming and going, a User's first and last ones too. It has no kicks: those are for Gateways. Pure.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

import msgspec

from gate.core.presence import Event, Kind

JSON_TYPE = "application/json"
ONLINE, OFFLINE, LOGGED_OUT = "0", "1", "2"

# By kind of event. An `OFFLINE` with the reason `logout` becomes `LOGGED_OUT`.
STATUS_OF: dict[Kind, str] = {
    "online": ONLINE,
    "platform-online": ONLINE,
    "offline": OFFLINE,
    "platform-offline": OFFLINE,
}


def webhook_events(events: Sequence[Event]) -> list[Event]:
    """Return the events that the webhook delivers: those with a kind in `STATUS_OF`."""
    return [event for event in events if event.kind in STATUS_OF]


def body_of(events: Sequence[Event]) -> bytes:
    """Encode the array. All events must have a kind in `STATUS_OF`, see `webhook_events`."""
    return msgspec.json.encode([_change(event) for event in events])


def _change(event: Event) -> dict[str, object]:
    status = STATUS_OF[event.kind]
    return {
        "userid": _id(event.user),
        "status": LOGGED_OUT if status == OFFLINE and event.why == "logout" else status,
        "os": event.platform,
        # A departure is written when its lease has ended; receivers want the moment at which the client left.
        "time": event.since_ms,
        "clientIp": event.ip,
        "sessionId": event.session,
    }


def _id(user: bytes) -> str | dict[str, str]:
    try:
        return user.decode()
    except UnicodeDecodeError:
        return {"b64": b64encode(user).decode()}
