"""`GET /v1/presence/changes?since=&limit=`: what is new since a cursor, one line a User, for those who come back now and then.

    {"changes": [{"user": "alice", "online": true, "at_ms": …, "platforms": [{"platform": "iOS", "online": true, "at_ms": …}]}],
     "cursor": …, "more": false}

A reader first takes the head (no `since`), then reads the state (`/v1/presence/online`), and then asks for changes again and
again, with the cursor of the answer before. Every change that follows on from a cursor is told, once: what came in between
is collapsed into the newest. If entries of the feed are no longer kept since a cursor, or Redis lost some, the answer is 410
`cursor-gone`, and the reader begins anew. `events.py` tells the same as it happens.
"""

from __future__ import annotations

from collections.abc import Iterable

from gate.core.presence import Cursor, Event, parse_cursor
from gate.errors import FeedReset, InvalidInput
from gate.http.context import AppRequest
from gate.http.fields import id_json
from gate.http.v1.endpoint import Endpoint

MAX_ENTRIES = 10_000
"""Of the feed in one answer: some 1.5 MB to read, some 40 ms to collapse."""
DEFAULT_ENTRIES = 1_000
START_ANEW = (
    "take a new cursor (leave `since` out), read the state with GET /v1/presence/online, and go on from that cursor"
)


async def changes(call: AppRequest) -> dict[str, object]:
    """→ changes, cursor, more. Without `since`: the newest cursor and no changes. `limit` bounds how many entries of the feed
    are looked at; where there are `more`, ask again at once."""
    query = call.query()
    most = query.whole("limit", 1, MAX_ENTRIES, default=DEFAULT_ENTRIES)
    told = query.text("since")
    feeds = call.deps.feeds
    if told is None:
        return {"changes": [], "cursor": str(await feeds.head(call.app_key)), "more": False}
    after = cursor_named(told, "since")
    try:
        events = await feeds.read(call.app_key, after, most)
    except FeedReset as reset:
        raise FeedReset(f"{reset}: {START_ANEW}") from None
    cursor = events[-1].cursor if events else after
    return {"changes": collapsed(events), "cursor": str(cursor), "more": len(events) == most}


def cursor_named(text: str, parameter: str) -> Cursor:
    """The cursor that a caller gives back; `InvalidInput` by this name."""
    try:
        return parse_cursor(text)
    except InvalidInput as fault:
        raise InvalidInput(parameter, fault.problem) from None


def collapsed(events: Iterable[Event]) -> list[dict[str, object]]:
    """Each User's newest state, and of each platform that came or went; whose newest change is the oldest stands first."""
    users: dict[bytes, dict[str, Event]] = {}
    for event in events:
        if event.kind == "kick":  # what it led to is told by itself
            continue
        platforms = users.pop(event.user, {})
        platforms.pop(event.platform, None)
        users[event.user] = {**platforms, event.platform: event}
    return [_change(user, list(platforms.values())) for user, platforms in users.items()]


def _change(user: bytes, newest: list[Event]) -> dict[str, object]:
    return {
        "user": id_json(user),
        "online": newest[-1].kind != "offline",
        "at_ms": newest[-1].since_ms,
        "platforms": [
            {"platform": one.platform, "online": one.kind in ("online", "platform-online"), "at_ms": one.since_ms}
            for one in newest
        ],
    }


ENDPOINTS: dict[tuple[str, str], Endpoint] = {("/v1/presence/changes", "GET"): changes}
