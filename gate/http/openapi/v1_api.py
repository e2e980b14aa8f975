"""`/v1/*` and `/client/v1/*` in the document: what each endpoint reads and answers."""

from __future__ import annotations

from collections.abc import Mapping

from gate.core.closing import ENDINGS
from gate.http.client import blacklist, own_list
from gate.http.client import presence as client_presence
from gate.http.endpoint import Effective
from gate.http.openapi import shapes
from gate.http.openapi.bounds import APP_KEY, PLATFORM
from gate.http.openapi.described import CURSOR_TEXT, RAW_ID, Described, Field, ids, one_id, text_field, whole
from gate.http.v1.lists import MembersPage
from gate.http.v1.presence_json import PresenceAnswer

Place = tuple[str, str]

CLIENT: Mapping[Place, Described] = {
    ("/client/v1/blacklist", "GET"): Described(
        "The caller's Blacklist, or whether one User is on it",
        (MembersPage, shapes.ListedOrNot),
        query=(
            one_id("user", "Ask for this User alone.", RAW_ID, is_required=False),
            whole("count", 1, own_list.MAX_PAGE, own_list.MAX_PAGE),
            text_field("cursor", CURSOR_TEXT, format="page-token"),
        ),
    ),
    ("/client/v1/blacklist", "POST"): Described(
        "Put Users on the caller's Blacklist", Effective, blacklist.Blocking, faults=("list-full",)
    ),
    ("/client/v1/blacklist", "DELETE"): Described(
        "Take Users off the caller's Blacklist", Effective, blacklist.Unblocking
    ),
    ("/client/v1/presence", "GET"): Described(
        "Who of these Users is online, as the caller may see it",
        PresenceAnswer,
        query=(ids("user", client_presence.MAX_USERS, schema=RAW_ID),),
        faults=("stale",),
    ),
}
"""What an end user's own app calls."""

CONNECT = Described(
    "Hold a Session over a WebSocket",
    None,
    query=(text_field("platform", "The kind of device; `Websocket` if nothing is said.", **PLATFORM),),
    faults=("upgrade-required", "too-many-sessions"),
    status=101,
)
CONNECT_TEXT = f"""\
A WebSocket handshake (RFC 6455, version 13). Who may not connect is refused before the upgrade, by an ordinary answer; whoever
reads `welcome` is online. Browsers, which can set no header here, give the Token as `token` in the query. Messages and their
answers are JSON in text frames: `docs/websocket.md` has them. Closed by Gate with one of these codes:
{", ".join(f"{ending.code} `{reason}`" for reason, ending in ENDINGS.items())}.\
"""

PATH_FIELDS: Mapping[str, Field] = {
    "user": one_id("user", schema=RAW_ID),
    "app": Field("app", APP_KEY, "The App's key.", True),
}
"""What stands in a path."""
