"""`/client/v1/blacklist`: a User's own Blacklist, the same that `/user/blacklist/*.json` and `/v1/blacklist` change.

    GET             the list, newest first, in pages
    GET ?user=      whether one User is on it; answered from this node's Replica, so also while Redis is away
    POST            put Users on it, for good or until a moment
    DELETE          take Users off it

Users need not exist to be blocked, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from msgspec import Meta

from gate.errors import InvalidInput
from gate.http.client import own_list
from gate.http.client.endpoint import ClientRequest
from gate.http.endpoint import Effective, Endpoint, answered
from gate.http.fields import AT_MOST_ONE_EXPIRY, Seconds, UntilMs, expiry_mistakes, expiry_ms, up_to
from gate.http.paging import PageToken
from gate.http.requests import Body, Query, Schema
from gate.http.v1.lists import MembersPage

Users = Annotated[list[bytes], up_to(own_list.MAX_OWN_LIST_USERS)]


class OwnListQuery(Query, frozen=True):
    """Which page, or which User alone."""

    count: Annotated[int, Meta(ge=1, le=own_list.MAX_OWN_LIST_PAGE)] = own_list.MAX_OWN_LIST_PAGE
    cursor: PageToken | None = None
    user: Annotated[bytes, Meta(description="Ask for this User alone.")] | None = None


class Blocking(Body, frozen=True):
    """Who goes on the caller's list, and until when: without an expiry, for good."""

    SCHEMA: ClassVar[Schema] = AT_MOST_ONE_EXPIRY

    users: Users
    until: UntilMs | None = None
    seconds: Seconds | None = None

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """An expiry that is given twice."""
        return expiry_mistakes(self.until, self.seconds)


class Unblocking(Body, frozen=True):
    """Who comes off it."""

    users: Users


async def look(call: ClientRequest, query: OwnListQuery) -> MembersPage | own_list.ListedOrNot:
    """`?user=` → user, listed, until; `?count=&cursor=` → members and where the next page begins."""
    if query.user is not None:
        return own_list.listed(call, query.user)
    return await own_list.members(call, query.count, query.cursor)


async def block(call: ClientRequest, body: Blocking) -> Effective:
    """All or, past the App's ceiling, none. Adding again sets the new expiry."""
    until_ms = expiry_ms(body.until, body.seconds, call.now_ms)
    return await answered(call, Effective, await own_list.block(call, body.users, until_ms))


async def unblock(call: ClientRequest, body: Unblocking) -> Effective:
    """Removing a User that was never listed is no error."""
    return await answered(call, Effective, await own_list.unblock(call, body.users))


ENDPOINTS: dict[tuple[str, str], Endpoint[ClientRequest]] = {
    ("/client/v1/blacklist", "GET"): Endpoint("The caller's Blacklist, or whether one User is on it", look),
    ("/client/v1/blacklist", "POST"): Endpoint("Put Users on the caller's Blacklist", block, faults=("list-full",)),
    ("/client/v1/blacklist", "DELETE"): Endpoint("Take Users off the caller's Blacklist", unblock),
}
