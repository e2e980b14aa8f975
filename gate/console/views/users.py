"""The Users of an App: the newest first, or those whose id or name holds a part, page by page; and the way to an exact id."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiohttp import web

from gate.console import PREFIX
from gate.console.act_fields import problem_text
from gate.console.id_format import Asked, Named, named, query_of
from gate.console.pages import page
from gate.console.request_context import ConsoleContext
from gate.console.user_search import UserMatches, matching_users
from gate.core.ids import MAX_ID_BYTES
from gate.core.model import UserFacts
from gate.errors import InvalidInput, StoreUnavailable
from gate.http.fields import place_of, place_token
from gate.replica.reader import app_of
from gate.store.users import Profile

ROWS = 50
# Of a page that was asked for without an exact id.
_NO_FIELD = Asked(None, "", "", "text")


class UserRow(NamedTuple):
    """One User of a table. `profile` is None for one that is not registered, or while Redis is away."""

    user: Named
    profile: Profile | None
    facts: UserFacts


async def show(context: ConsoleContext, field: Asked = _NO_FIELD) -> web.Response:
    """`?match=&token=` → the page. `field` is a wrong id that was to be opened."""
    # A wrong id to open is shown on this page, next to the search, so it is this page's status.
    query, values, status = context.query(), dict[str, Any](), 400 if field.problem else 200
    try:
        part, token = query.text("match") or "", query.text("token")
        values = await (_search(context, part, token) if part else _newest(context, token))
    except InvalidInput as fault:
        # Without the part: a search that can't be made must not be repeated by the link to the first page.
        part, status, values = "", 400, {"rows": [], "search_problem": problem_text(fault, context.language)}
    here = f"{PREFIX}{context.app_key}/user"
    fixed = {
        "field": field,
        "part": part,
        "first": (f"{here}?{query_of(match=part)}" if part else here) if query.has("token") else "",
        "following": "",
        "matches": None,
        "total": None,
        # The part may be an id that is nowhere yet, and no search finds it; its page can still be opened.
        "exact": named(part.encode()) if 0 < len(part.encode("utf-8", "replace")) <= MAX_ID_BYTES else None,
        "search_problem": "",
    }
    return page(context, "users.html", status, **fixed | values)


async def rows_of(context: ConsoleContext, users: Sequence[bytes], known: Sequence[Profile] = ()) -> list[UserRow]:
    """A row for each User: its facts from this node's Replica, its profile from Redis if that can be reached."""
    profiles = {one.user: one for one in known}
    # A search has found profiles already; each is 1 read of Redis.
    missing = [user for user in users if user not in profiles]
    try:
        found = await context.deps.store.users.profiles(context.app_key, missing)
        profiles |= {one.user: one for one in found if one is not None}
    except StoreUnavailable:
        pass
    # One snapshot for all rows, so that no two of them are of different commits.
    with context.deps.replica as snapshot:
        app = app_of(snapshot, context.app_key)
        return [UserRow(named(user), profiles.get(user), app.user(user)) for user in users]


async def _newest(context: ConsoleContext, token: str | None) -> dict[str, Any]:
    users = context.deps.store.users
    place = None if token is None else place_of(token)
    try:
        (found, following), total = await asyncio.gather(
            # By position, not by offset: Users that register meanwhile move no row to the next page.
            users.behind(context.app_key, place, ROWS, newest_first=True),
            users.count(context.app_key),
        )
    except StoreUnavailable as fault:
        return {"rows": [], "away": str(fault)}
    return {
        "rows": await rows_of(context, [one.user for one in found], found),
        "total": total,
        "following": _address(context, token=place_token(following)) if following else "",
    }


async def _search(context: ConsoleContext, part: str, token: str | None) -> dict[str, Any]:
    matches: UserMatches = await matching_users(context.deps, context.app_key, part, token, ROWS)
    values: dict[str, Any] = {
        "rows": await rows_of(context, matches.users),
        "matches": matches,
        "following": _address(context, match=part, token=matches.following) if matches.following else "",
    }
    # Redis just failed: asking it for the count as well would only wait again.
    if matches.away:
        return values | {"away": matches.away}
    try:
        values["total"] = await context.deps.store.users.count(context.app_key)
    except StoreUnavailable as fault:
        values["away"] = str(fault)
    return values


def _address(context: ConsoleContext, **fields: str) -> str:
    return f"{PREFIX}{context.app_key}/user?{query_of(**fields)}"
