"""`/client/v1/blacklist`: a User's own Blacklist, the same that `/user/blacklist/*.json` and `/v1/blacklist` change.

    GET             the list, newest first, in pages
    GET ?user=      whether one User is on it; answered from this node's Replica, so also while Redis is away
    POST            put Users on it, for good or until a moment
    DELETE          take Users off it

Users need not exist to be blocked, as everywhere.
"""

from __future__ import annotations

import msgspec

from gate.core.model import FOREVER_MS, ListKind
from gate.errors import InvalidInput
from gate.http.client.endpoint import ClientCall, Endpoint
from gate.http.paging import page_cursor, page_token
from gate.http.v1.endpoint import read_as, refuse_if_any
from gate.http.v1.ends import end_ms
from gate.http.v1.ids import IdJson, id_json, ids_bytes
from gate.store.writing import Written

MAX_USERS = 100
"""That one call may name: an end user blocks by hand."""
MAX_PAGE = 1_000
BY_ITSELF = "user"
"""Who did it, as the audit names an owner that changed its own list."""


class Blocking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who goes on the caller's list, and until when: without an end, for good."""

    users: list[IdJson]
    until: int | None = None
    seconds: int | None = None


class Unblocking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who comes off it."""

    users: list[IdJson]


async def look(call: ClientCall) -> dict[str, object]:
    """`?user=` → user, listed, until; `?count=&cursor=` → members and where the next page begins."""
    query = call.query()
    count = query.whole("count", 1, MAX_PAGE, default=MAX_PAGE)
    cursor = query.text("cursor")
    before = None if cursor is None else page_cursor(cursor, "cursor")
    if query.one("user") is not None:
        return _listed(call, query.raw_user("user"))
    entries, next_before = await call.deps.store.lists.page(
        call.app_key, ListKind.BLACKLIST, call.user, call.now_ms, before, count
    )
    members = [{"user": id_json(entry.member), "until": _shown_end(entry.until_ms)} for entry in entries]
    return {"members": members, "next": None if next_before is None else page_token(next_before)}


async def block(call: ClientCall) -> Written:
    """All or, past the App's ceiling, none. Adding again sets the new end."""
    body = await read_as(call, Blocking)
    problems: list[InvalidInput] = []
    users = ids_bytes(body.users, "users", MAX_USERS, problems)
    until_ms = end_ms(body.until, body.seconds, False, call.now_ms, problems)
    refuse_if_any(problems)
    return await call.deps.store.lists.add(
        call.app_key,
        ListKind.BLACKLIST,
        call.user,
        users,
        until_ms or FOREVER_MS,
        call.now_ms,
        call.facts.list_ceiling,
        by=BY_ITSELF,
    )


async def unblock(call: ClientCall) -> Written:
    """Taking off who was never on it is no error."""
    body = await read_as(call, Unblocking)
    problems: list[InvalidInput] = []
    users = ids_bytes(body.users, "users", MAX_USERS, problems)
    refuse_if_any(problems)
    return await call.deps.store.lists.remove(
        call.app_key, ListKind.BLACKLIST, call.user, users, call.now_ms, by=BY_ITSELF
    )


def _listed(call: ClientCall, user: bytes) -> dict[str, object]:
    until_ms = call.view.entry_until_ms(ListKind.BLACKLIST, call.user, user)
    listed = until_ms > call.now_ms
    return {"user": id_json(user), "listed": listed, "until": _shown_end(until_ms) if listed else None}


def _shown_end(until_ms: int) -> int | None:
    return until_ms if until_ms < FOREVER_MS else None


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("/client/v1/blacklist", "GET"): look,
    ("/client/v1/blacklist", "POST"): block,
    ("/client/v1/blacklist", "DELETE"): unblock,
}
