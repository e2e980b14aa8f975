"""`/client/v1/blacklist`: a User's own Blacklist, the same that `/user/blacklist/*.json` and `/v1/blacklist` change.

    GET             the list, newest first, in pages
    GET ?user=      whether one User is on it; answered from this node's Replica, so also while Redis is away
    POST            put Users on it, for good or until a moment
    DELETE          take Users off it

Users need not exist to be blocked, as everywhere.
"""

from __future__ import annotations

import msgspec

from gate.http.client import own_list
from gate.http.client.endpoint import ClientRequest, Endpoint
from gate.http.fields import IdJson
from gate.http.v1.endpoint import read_as
from gate.store.writer import WriteReceipt


class Blocking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who goes on the caller's list, and until when: without an end, for good."""

    users: list[IdJson]
    until: int | None = None
    seconds: int | None = None


class Unblocking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who comes off it."""

    users: list[IdJson]


async def look(call: ClientRequest) -> dict[str, object]:
    """`?user=` → user, listed, until; `?count=&cursor=` → members and where the next page begins."""
    query = call.query()
    count = query.whole("count", 1, own_list.MAX_PAGE, default=own_list.MAX_PAGE)
    cursor = query.text("cursor")
    if query.one("user") is not None:
        return own_list.listed(call, query.raw_user("user"))
    return await own_list.members(call, count, cursor)


async def block(call: ClientRequest) -> WriteReceipt:
    """All or, past the App's ceiling, none. Adding again sets the new end."""
    body = await read_as(call, Blocking)
    return await own_list.block(call, body.users, body.until, body.seconds)


async def unblock(call: ClientRequest) -> WriteReceipt:
    """Taking off who was never on it is no error."""
    body = await read_as(call, Unblocking)
    return await own_list.unblock(call, body.users)


ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("/client/v1/blacklist", "GET"): look,
    ("/client/v1/blacklist", "POST"): block,
    ("/client/v1/blacklist", "DELETE"): unblock,
}
