"""`/v1/*` and `/client/v1/*` in the document: what each endpoint reads and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from gate.core.closing import ENDINGS
from gate.core.model import FOREVER_MS
from gate.core.presence import KINDS
from gate.http.client import blacklist, own_list
from gate.http.client import presence as client_presence
from gate.http.endpoint import Effective
from gate.http.fields import IdJson
from gate.http.openapi import presence_shapes, shapes
from gate.http.openapi.bounds import APP_KEY, CURSOR, GATEWAY, PLATFORM
from gate.http.openapi.described import CURSOR_TEXT, RAW_ID, Described, Field, ids, one_id, text_field, whole
from gate.http.v1 import apps, audit, bulk, changes, events, lists, presence, users
from gate.http.v1.operations import Operation
from gate.store.audit import MAX_PAGE as MAX_AUDIT_PAGE

Place = tuple[str, str]

_MIN = text_field("min", "A Revision that the answer must not be older than.", format="revision")


class PairNamed(msgspec.Struct):
    """One question, its two Users named."""

    sender: IdJson = msgspec.field(name="from")
    recipient: IdJson = msgspec.field(name="to")


class CheckPairs(msgspec.Struct):
    """Questions about any two Users each."""

    pairs: list[Annotated[list[IdJson], Meta(min_length=2, max_length=2)] | PairNamed]
    min: str | None = None


class CheckMany(msgspec.Struct):
    """One sender, many recipients."""

    sender: IdJson = msgspec.field(name="from")
    recipients: list[IdJson] = msgspec.field(name="to")
    min: str | None = None


class BulkBody(msgspec.Struct, forbid_unknown_fields=True):
    """What to do, in order."""

    operations: list[Operation]


_AUDIT_PAGE = (
    whole("from", 0, FOREVER_MS, 0, "A moment, Unix ms, that counts."),
    whole("to", 0, FOREVER_MS, FOREVER_MS, "A moment, Unix ms, that no longer counts."),
    whole("count", 1, MAX_AUDIT_PAGE, audit.DEFAULT_PAGE),
    text_field("cursor", CURSOR_TEXT, pattern=r"^([1-9][0-9]{0,15}-[0-9]{1,16}-[0-9]{1,4})?$"),
)
_SINCE = Field("since", {"type": "string", **CURSOR})
_WATCH = (
    text_field("kinds", f"With commas between them, of {', '.join(KINDS)}.", format="event-kinds"),
    ids("users", events.MAX_USERS_IN_QUERY, "Only these, a field each.", schema=RAW_ID, is_required=False),
    Field(
        "gateway",
        {"type": "string", **GATEWAY},
        "Only Sessions that this Gateway holds, and only their kicks unless kinds are named.",
    ),
    _SINCE,
)
_PLACE = text_field("token", f"{CURSOR_TEXT} Not with `offset`.", format="place-token")
_ASK = (one_id("from", schema=RAW_ID), one_id("to", schema={**RAW_ID, "examples": ["bob"]}), _MIN)


def _list_family(name: str, title: str) -> dict[Place, Described]:
    query = (
        one_id("owner", "Whose list.", RAW_ID),
        whole("count", 1, lists.MAX_MEMBERS, lists.MAX_MEMBERS),
        text_field("token", CURSOR_TEXT, format="page-token"),
    )
    return {
        (f"/v1/{name}", "POST"): Described(f"Put Users on a {title}", Effective, lists.Adding, faults=("list-full",)),
        (f"/v1/{name}", "DELETE"): Described(f"Take Users off a {title}", Effective, lists.Removing),
        (f"/v1/{name}", "GET"): Described(f"Page through a {title}", shapes.MembersPage, query=query),
    }


V1: Mapping[Place, Described] = {
    ("/v1/check", "GET"): Described(
        "May one User message another?", shapes.VerdictAnswer, query=_ASK, faults=("stale",)
    ),
    ("/v1/check", "POST"): Described(
        "Many checks at once", shapes.VerdictsAnswer, (CheckPairs, CheckMany), faults=("stale",)
    ),
    ("/v1/explain", "GET"): Described("Why, rule by rule", shapes.Explanation, query=_ASK, faults=("stale",)),
    ("/v1/users", "POST"): Described(
        "Register a User", shapes.Registration, users.Profiled, faults=("user-limit", "refused")
    ),
    ("/v1/users", "GET"): Described(
        "Page through the registered Users",
        shapes.UsersPage,
        query=(
            whole("offset", 0, users.MAX_OFFSET, 0),
            whole("count", 1, users.MAX_USERS, users.MAX_USERS),
            text_field("order", "Whichever comes first.", enum=["oldest", "newest"], default="oldest"),
            _PLACE,
        ),
    ),
    ("/v1/users", "DELETE"): Described("Delete Users", Effective, users.Deleting, faults=("refused",)),
    ("/v1/users/{user}", "GET"): Described("Show a User", shapes.KnownUser, faults=("not-found",)),
    ("/v1/users/{user}", "PATCH"): Described(
        "Change what a User is called", shapes.KnownUser, users.ProfileChange, faults=("not-found", "refused")
    ),
    ("/v1/users/{user}/dossier", "GET"): Described(
        "Everything that is kept about a User", shapes.Dossier, faults=("not-found",)
    ),
    ("/v1/tokens", "POST"): Described("Mint a Token", shapes.Minting, users.Profiled, faults=("user-limit", "refused")),
    ("/v1/tokens", "DELETE"): Described("Revoke Tokens", Effective, users.Revoking),
    **_list_family("blacklist", "Blacklist"),
    **_list_family("whitelist", "Whitelist"),
    ("/v1/whitelist-switch", "PUT"): Described("Switch Whitelists on or off", Effective, lists.Switching),
    ("/v1/bulk", "POST"): Described(f"Up to {bulk.MAX_OPERATIONS:,} operations in one call", shapes.BulkDone, BulkBody),
    ("/v1/audit", "GET"): Described(
        "Who did what to whom",
        shapes.AuditPage,
        query=(one_id("user", "Only what was done to this User.", RAW_ID, is_required=False), *_AUDIT_PAGE),
    ),
    ("/v1/presence", "POST"): Described(
        "Who of these Users is online", presence_shapes.PresenceAnswer, presence.Asking, faults=("stale",)
    ),
    ("/v1/presence/counts", "GET"): Described("How many are online", presence_shapes.PresenceCounts),
    ("/v1/presence/history", "GET"): Described(
        "How many were online in the last hour",
        presence_shapes.PresenceHistory,
        query=(whole("minutes", 1, presence.MAX_MINUTES, presence.MAX_MINUTES, "How far back."),),
    ),
    ("/v1/presence/online", "GET"): Described(
        "Page through the Users that are online",
        presence_shapes.OnlinePage,
        query=(
            whole("size", 1, presence.MAX_PAGE, presence.DEFAULT_PAGE),
            text_field("pageToken", CURSOR_TEXT, format="page-token"),
        ),
    ),
    ("/v1/presence/changes", "GET"): Described(
        "Who came and went since a cursor",
        presence_shapes.PresenceChanges,
        query=(_SINCE, whole("limit", 1, changes.MAX_ENTRIES, changes.DEFAULT_ENTRIES)),
        faults=("cursor-gone",),
    ),
    ("/v1/events", "GET"): Described(
        "What happens, as it happens", events.CONTENT_TYPE, query=_WATCH, faults=("too-many-streams",)
    ),
    ("/v1/events", "POST"): Described(
        "What happens to many Users, as it happens", events.CONTENT_TYPE, events.Watching, faults=("too-many-streams",)
    ),
    ("/v1/gateways", "GET"): Described("Gateways and their leases", presence_shapes.Gateways),
    ("/v1/users/{user}/sessions", "GET"): Described("A User's Sessions", presence_shapes.UserSessions),
    ("/v1/users/{user}/kick", "POST"): Described("Close a User's Sessions", presence_shapes.Kicked, presence.Kicking),
}
"""What an App calls."""

APPS: Mapping[Place, Described] = {
    ("/v1/apps", "GET"): Described("All Apps", shapes.AppsPage),
    ("/v1/apps", "POST"): Described("Create an App", shapes.AppMade, apps.Creating, faults=("refused",)),
    ("/v1/apps/{app}", "GET"): Described("Show an App", shapes.AppSettings, faults=("not-found",)),
    ("/v1/apps/{app}", "PATCH"): Described("Change an App", shapes.AppChanged, apps.Changing, faults=("not-found",)),
    ("/v1/apps/{app}", "DELETE"): Described("Remove an App", Effective, faults=("not-found",)),
    ("/v1/apps/{app}/rotate-secret", "POST"): Described(
        "Give an App a new secret beside the old one", shapes.SecretMade, apps.Rotating, faults=("not-found", "refused")
    ),
    ("/v1/apps/{app}/drop-secret", "POST"): Described(
        "End an App's old secret", shapes.SecretDropped, apps.Dropping, faults=("not-found", "refused")
    ),
    ("/v1/deployment-audit", "GET"): Described(
        "What was done to Apps and operators", shapes.DeploymentAuditPage, query=_AUDIT_PAGE
    ),
}
"""What an operator calls."""

CLIENT: Mapping[Place, Described] = {
    ("/client/v1/blacklist", "GET"): Described(
        "The caller's Blacklist, or whether one User is on it",
        (shapes.MembersPage, shapes.ListedOrNot),
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
        presence_shapes.PresenceAnswer,
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
