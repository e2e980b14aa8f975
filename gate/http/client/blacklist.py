"""`/client/v1/blacklist`: a User's own Blacklist, the same that `/user/blacklist/*.json` and `/v1/blacklist` change.

    GET             the list, newest first, in pages
    GET ?user=      whether one User is on it; answered from this node's Replica, so also while Redis is away
    POST            put Users on it, for good or until a moment
    DELETE          take Users off it

Users need not exist to be blocked, as everywhere. Messages on a WebSocket call the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from gate.core.model import ListKind
from gate.errors import InvalidInput
from gate.http.client.endpoint import ClientContext, ClientRequest
from gate.http.endpoint import Effective, Endpoint, answered
from gate.http.fields import (
    AT_MOST_ONE_EXPIRY,
    IdJson,
    PageToken,
    Seconds,
    UntilMs,
    expiry_mistakes,
    expiry_ms,
    json_id,
    page_cursor,
    until_json,
    up_to,
)
from gate.http.forms import Query
from gate.http.requests import Body, Schema
from gate.http.v1.gating import MembersPage, members_page
from gate.replica.reader import app_of
from gate.store.writer import WriteReceipt

# That one call may name: an end user blocks by hand.
MAX_OWN_LIST_USERS = 100
MAX_OWN_LIST_PAGE = 1_000
# Who did it, as the audit names an owner that changed its own list.
BY_ITSELF = "user"


Users = Annotated[list[bytes], up_to(MAX_OWN_LIST_USERS)]


class OwnListQuery(Query, frozen=True):
    """Which page, or which User alone."""

    count: Annotated[int, Meta(ge=1, le=MAX_OWN_LIST_PAGE)] = MAX_OWN_LIST_PAGE
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


class ListedOrNot(Struct, kw_only=True):
    """Whether one User is on the caller's Blacklist. `until` null: for good, or not at all."""

    user: IdJson
    listed: bool
    until: int | None


async def members(asking: ClientContext, count: int, cursor: str | None) -> MembersPage:
    """A page of the list, newest first. Raises `StoreUnavailable`."""
    before = None if cursor is None else page_cursor(cursor, "cursor")
    page = await asking.deps.store.lists.page(
        asking.app_key, ListKind.BLACKLIST, asking.user, asking.now_ms, before, count
    )
    return members_page(*page)


def listed(asking: ClientContext, user: bytes) -> ListedOrNot:
    """Whether one User is on it → user, listed, until. From the Replica, so also while Redis is away."""
    with asking.deps.replica as snapshot:
        until_ms = app_of(snapshot, asking.app_key).entry_until_ms(ListKind.BLACKLIST, asking.user, user)
    # An entry that has ended counts as absent, though it may still be stored.
    is_listed = until_ms > asking.now_ms
    return ListedOrNot(user=json_id(user), listed=is_listed, until=until_json(until_ms) if is_listed else None)


async def block(asking: ClientContext, users: Sequence[bytes], until_ms: int) -> WriteReceipt:
    """All or, past the App's ceiling, none. Adding again sets the new expiry."""
    return await asking.writes(by=BY_ITSELF).add(ListKind.BLACKLIST, asking.user, users, until_ms)


async def unblock(asking: ClientContext, users: Sequence[bytes]) -> WriteReceipt:
    """Removing a User that was never listed is no error."""
    return await asking.writes(by=BY_ITSELF).remove(ListKind.BLACKLIST, asking.user, users)


async def look(call: ClientRequest, query: OwnListQuery) -> MembersPage | ListedOrNot:
    """`?user=` → user, listed, until; `?count=&cursor=` → members and where the next page begins."""
    if query.user is not None:
        return listed(call, query.user)
    return await members(call, query.count, query.cursor)


async def add(call: ClientRequest, body: Blocking) -> Effective:
    """All or, past the App's ceiling, none. Adding again sets the new expiry."""
    until_ms = expiry_ms(body.until, body.seconds, call.now_ms)
    return await answered(call, Effective, await block(call, body.users, until_ms))


async def remove(call: ClientRequest, body: Unblocking) -> Effective:
    """Removing a User that was never listed is no error."""
    return await answered(call, Effective, await unblock(call, body.users))


ENDPOINTS: dict[tuple[str, str], Endpoint[ClientRequest]] = {
    ("/client/v1/blacklist", "GET"): Endpoint("The caller's Blacklist, or whether one User is on it", look),
    ("/client/v1/blacklist", "POST"): Endpoint("Put Users on the caller's Blacklist", add, faults=("list-full",)),
    ("/client/v1/blacklist", "DELETE"): Endpoint("Take Users off the caller's Blacklist", remove),
}
