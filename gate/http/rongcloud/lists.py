"""`/user/blacklist/*.json` and `/user/whitelist/*.json`: add, remove, query; alike but for the name of the member's field.

`/user/whitesetting/set.json` and `query.json`: the User's own whitelist switch.
"""

from __future__ import annotations

from functools import partial

from gate.core.ids import shown
from gate.core.model import FOREVER_MS, ListKind
from gate.http.context import AppRequest
from gate.http.forms import Form
from gate.http.paging import page_cursor, page_token
from gate.http.rongcloud.endpoint import MAX_IDS, Endpoint, Success

MAX_PAGE_ENTRIES = 1_000
"""Also what a query without a size answers."""


async def add(call: AppRequest, form: Form, kind: ListKind, member_field: str) -> Success:
    """Put 1 to 20 Users on the owner's list; past the ceiling, none of them."""
    owner, members = form.user("userId"), form.users(member_field, MAX_IDS)
    lists, ceiling = call.deps.store.lists, call.facts.list_ceiling
    return Success(written=await lists.add(call.app_key, kind, owner, members, FOREVER_MS, call.now_ms, ceiling))


async def remove(call: AppRequest, form: Form, kind: ListKind, member_field: str) -> Success:
    """Take 1 to 20 Users off the owner's list, on it or not."""
    owner, members = form.user("userId"), form.users(member_field, MAX_IDS)
    return Success(written=await call.deps.store.lists.remove(call.app_key, kind, owner, members, call.now_ms))


async def query(call: AppRequest, form: Form, kind: ListKind) -> Success:
    """The owner's list, newest first; `next` only where more follows."""
    owner = form.user("userId")
    token = form.text("pageToken")
    size = form.whole("size", 1, MAX_PAGE_ENTRIES, default=MAX_PAGE_ENTRIES)
    before = None if token is None else page_cursor(token)
    entries, next_before = await call.deps.store.lists.page(call.app_key, kind, owner, call.now_ms, before, size)
    users = [shown(entry.member) for entry in entries]
    return Success({"users": users} if next_before is None else {"users": users, "next": page_token(next_before)})


def _family(word: str, kind: ListKind, member_field: str) -> dict[str, Endpoint]:
    return {
        f"/user/{word}/add.json": partial(add, kind=kind, member_field=member_field),
        f"/user/{word}/remove.json": partial(remove, kind=kind, member_field=member_field),
        f"/user/{word}/query.json": partial(query, kind=kind),
    }


async def set_switch(call: AppRequest, form: Form) -> Success:
    """Switch the whitelists of 1 to 20 Users: 1 on, 0 off."""
    users = form.users("userId", MAX_IDS)
    on = form.whole("whiteSetting", 0, 1) == 1
    return Success(written=await call.deps.store.lists.switch(call.app_key, users, on, call.now_ms))


async def query_switches(call: AppRequest, form: Form) -> Success:
    """Each User's own switch, as a string, in the order asked; an App-wide switch does not show here."""
    users = form.users("userId", MAX_IDS)
    switches = await call.deps.store.lists.switches(call.app_key, users)
    settings = [
        {"userId": shown(user), "whiteSetting": "1" if on else "0"} for user, on in zip(users, switches, strict=True)
    ]
    return Success({"users": settings})


ENDPOINTS: dict[str, Endpoint] = {
    **_family("blacklist", ListKind.BLACKLIST, "blackUserId"),
    # RongCloud's English page on adding prints this name.
    **_family("blocklist", ListKind.BLACKLIST, "blackUserId"),
    **_family("whitelist", ListKind.WHITELIST, "whiteUserId"),
    "/user/whitesetting/set.json": set_switch,
    "/user/whitesetting/query.json": query_switches,
}
