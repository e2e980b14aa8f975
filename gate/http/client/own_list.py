"""A User's own Blacklist, as the User reads and changes it: over `/client/v1/blacklist` or in messages on its WebSocket."""

from __future__ import annotations

from collections.abc import Sequence

from gate.core.model import FOREVER_MS, ListKind
from gate.errors import InvalidInput
from gate.http.client.endpoint import ClientContext
from gate.http.fields import IdJson, end_ms, id_json, ids_bytes
from gate.http.paging import page_cursor, page_token
from gate.http.v1.endpoint import refuse_if_any
from gate.replica.reader import app_of
from gate.store.writer import WriteReceipt

MAX_USERS = 100
"""That one call may name: an end user blocks by hand."""
MAX_PAGE = 1_000
BY_ITSELF = "user"
"""Who did it, as the audit names an owner that changed its own list."""


async def members(asking: ClientContext, count: int, cursor: str | None) -> dict[str, object]:
    """A page of the list, newest first → members, next. Raises `StoreUnavailable`."""
    before = None if cursor is None else page_cursor(cursor, "cursor")
    entries, next_before = await asking.deps.store.lists.page(
        asking.app_key, ListKind.BLACKLIST, asking.user, asking.now_ms, before, count
    )
    shown = [{"user": id_json(entry.member), "until": _shown_end(entry.until_ms)} for entry in entries]
    return {"members": shown, "next": None if next_before is None else page_token(next_before)}


def listed(asking: ClientContext, user: bytes) -> dict[str, object]:
    """Whether one User is on it → user, listed, until. From the Replica, so also while Redis is away."""
    with asking.deps.replica.snapshot() as snapshot:
        until_ms = app_of(snapshot, asking.app_key).entry_until_ms(ListKind.BLACKLIST, asking.user, user)
    is_listed = until_ms > asking.now_ms
    return {"user": id_json(user), "listed": is_listed, "until": _shown_end(until_ms) if is_listed else None}


async def block(asking: ClientContext, users: Sequence[IdJson], until: int | None, seconds: int | None) -> WriteReceipt:
    """All or, past the App's ceiling, none. Adding again sets the new end."""
    problems: list[InvalidInput] = []
    ids = ids_bytes(users, "users", MAX_USERS, problems)
    until_ms = end_ms(until, seconds, False, asking.now_ms, problems)
    refuse_if_any(problems)
    return await asking.deps.store.lists.add(
        asking.app_key,
        ListKind.BLACKLIST,
        asking.user,
        ids,
        until_ms or FOREVER_MS,
        asking.now_ms,
        asking.facts.list_ceiling,
        by=BY_ITSELF,
    )


async def unblock(asking: ClientContext, users: Sequence[IdJson]) -> WriteReceipt:
    """Taking off who was never on it is no error."""
    problems: list[InvalidInput] = []
    ids = ids_bytes(users, "users", MAX_USERS, problems)
    refuse_if_any(problems)
    return await asking.deps.store.lists.remove(
        asking.app_key, ListKind.BLACKLIST, asking.user, ids, asking.now_ms, by=BY_ITSELF
    )


def _shown_end(until_ms: int) -> int | None:
    return until_ms if until_ms < FOREVER_MS else None
