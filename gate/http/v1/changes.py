"""`GET /v1/presence/changes?since=&limit=`: what is new since a cursor, one line a User, for those who come back now and then.

    {"changes": [{"user": "alice", "online": true, "at_ms": …, "platforms": [{"platform": "iOS", "online": true, "at_ms": …}]}],
     "cursor": …, "more": false}

A reader first takes the head (no `since`), then reads the state (`/v1/presence/online`), and then asks for changes again and
again, with the cursor of the answer before. Every change that follows on from a cursor is reported once: what came in between
is collapsed into the newest. If entries of the feed are no longer kept since a cursor, or Redis lost some, the answer is 410
`cursor-gone`, and the reader begins again. `events.py` reports the same as it happens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from gate.core.presence import Cursor, Event, parse_cursor
from gate.core.scopes import PRESENCE
from gate.errors import FeedReset, InvalidInput
from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.fields import FeedCursor, IdJson, json_id
from gate.http.forms import Query

MAX_ENTRIES = 10_000
"""Of the feed in one answer: some 1.5 MB to read, some 40 ms to collapse."""
DEFAULT_ENTRIES = 1_000
READ_AGAIN = (
    "take a new cursor (leave `since` out), read the state with GET /v1/presence/online, and go on from that cursor"
)


class ChangesQuery(Query, frozen=True):
    """Since when, and how many."""

    limit: Annotated[int, Meta(ge=1, le=MAX_ENTRIES)] = DEFAULT_ENTRIES
    since: FeedCursor | None = None


class PlatformChange(Struct, kw_only=True):
    """The newest state of a platform that came or went."""

    platform: str
    online: bool
    at_ms: int


class PresenceChange(Struct, kw_only=True):
    """A User's newest state, and that of the platforms that came or went."""

    user: IdJson
    online: bool
    at_ms: int
    platforms: list[PlatformChange]


class PresenceChanges(Struct, kw_only=True):
    """What is new. Ask again with `cursor`: at once where there is `more`."""

    changes: list[PresenceChange]
    cursor: str
    more: bool


async def changes(call: AppRequest, query: ChangesQuery) -> PresenceChanges:
    """→ changes, cursor, more. Without `since`: the newest cursor and no changes. `limit` bounds how many entries of the feed
    are looked at; where there are `more`, ask again at once."""
    feeds = call.deps.feeds
    if query.since is None:
        return PresenceChanges(changes=[], cursor=str(await feeds.head(call.app_key)), more=False)
    after = cursor_named(query.since, "since")
    try:
        events = await feeds.read(call.app_key, after, query.limit)
    except FeedReset as reset:
        raise FeedReset(f"{reset}: {READ_AGAIN}") from None
    cursor = events[-1].cursor if events else after
    return PresenceChanges(changes=collapsed(events), cursor=str(cursor), more=len(events) == query.limit)


def cursor_named(text: str, parameter: str) -> Cursor:
    """The cursor that a caller gives back; `InvalidInput` by this name."""
    try:
        return parse_cursor(text)
    except InvalidInput as fault:
        raise InvalidInput(parameter, fault.problem) from None


def collapsed(events: Iterable[Event]) -> list[PresenceChange]:
    """Each User's newest state, and of each platform that came or went; whose newest change is the oldest stands first."""
    users: dict[bytes, dict[str, Event]] = {}
    for event in events:
        if event.kind == "kick":  # what it led to is an event of its own
            continue
        platforms = users.pop(event.user, {})
        platforms.pop(event.platform, None)
        users[event.user] = {**platforms, event.platform: event}
    return [_change(user, list(platforms.values())) for user, platforms in users.items()]


def _change(user: bytes, newest: list[Event]) -> PresenceChange:
    platforms = [
        PlatformChange(platform=one.platform, online=one.kind in ("online", "platform-online"), at_ms=one.since_ms)
        for one in newest
    ]
    is_online = newest[-1].kind != "offline"
    return PresenceChange(user=json_id(user), online=is_online, at_ms=newest[-1].since_ms, platforms=platforms)


ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    ("/v1/presence/changes", "GET"): Endpoint(
        "Which Users came and went since a cursor", changes, scopes=PRESENCE, faults=("cursor-gone",)
    )
}
