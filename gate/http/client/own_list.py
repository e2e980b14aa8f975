"""A User's own Blacklist, as the User reads and changes it: over `/client/v1/blacklist` or in messages on its WebSocket."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from gate.core.model import ListKind
from gate.http.client.endpoint import ClientContext
from gate.http.fields import IdJson, json_id, until_json
from gate.http.paging import page_cursor
from gate.http.v1.lists import MembersPage, members_page
from gate.replica.reader import app_of
from gate.store.writer import WriteReceipt

MAX_OWN_LIST_USERS = 100
"""That one call may name: an end user blocks by hand."""
MAX_OWN_LIST_PAGE = 1_000
BY_ITSELF = "user"
"""Who did it, as the audit names an owner that changed its own list."""


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
    is_listed = until_ms > asking.now_ms
    return ListedOrNot(user=json_id(user), listed=is_listed, until=until_json(until_ms) if is_listed else None)


async def block(asking: ClientContext, users: Sequence[bytes], until_ms: int) -> WriteReceipt:
    """All or, past the App's ceiling, none. Adding again sets the new expiry."""
    return await asking.writes(by=BY_ITSELF).add(ListKind.BLACKLIST, asking.user, users, until_ms)


async def unblock(asking: ClientContext, users: Sequence[bytes]) -> WriteReceipt:
    """Removing a User that was never listed is no error."""
    return await asking.writes(by=BY_ITSELF).remove(ListKind.BLACKLIST, asking.user, users)
