"""`/v1/blacklist`, `/v1/whitelist` and `/v1/whitelist-switch`: the lists with expiries, and in pages with those expiries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from gate.core.model import FOREVER_MS, ListKind
from gate.core.scopes import USERS
from gate.errors import InvalidInput
from gate.http.context import AppRequest
from gate.http.endpoint import Effective, Endpoint, answered
from gate.http.fields import (
    AT_MOST_ONE_EXPIRY,
    Actor,
    IdJson,
    Reason,
    Seconds,
    UntilMs,
    expiry_mistakes,
    expiry_ms,
    json_ids,
    up_to,
)
from gate.http.forms import Query
from gate.http.paging import PageToken, page_cursor, page_token
from gate.http.requests import Body, Schema
from gate.store.lists import Entry

MAX_MEMBERS = 1_000
"""Entries, or Users, that one call may name."""

Users = Annotated[list[bytes], up_to(MAX_MEMBERS)]


class Adding(Body, frozen=True):
    """Whose list, who goes on it, and until when: without an expiry, for good."""

    SCHEMA: ClassVar[Schema] = AT_MOST_ONE_EXPIRY

    owner: bytes
    members: Users
    until: UntilMs | None = None
    seconds: Seconds | None = None
    reason: Reason = ""
    actor: Actor = ""

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """An expiry that is given twice."""
        return expiry_mistakes(self.until, self.seconds)


class Removing(Body, frozen=True):
    """Whose list, and who comes off it."""

    owner: bytes
    members: Users
    reason: Reason = ""
    actor: Actor = ""


class Switching(Body, frozen=True):
    """Whose whitelists, on or off."""

    users: Users
    on: bool
    reason: Reason = ""
    actor: Actor = ""


class ListPage(Query, frozen=True):
    """Which page of whose list."""

    owner: Annotated[bytes, Meta(description="Whose list.")]
    count: Annotated[int, Meta(ge=1, le=MAX_MEMBERS)] = MAX_MEMBERS
    token: PageToken | None = None


class Listed(Struct, gc=False):
    """One entry. `until` null: for good."""

    user: IdJson
    until: int | None


class MembersPage(Struct, kw_only=True):
    """Newest first; `next` is the token of the following page."""

    members: list[Listed]
    next: str | None


async def add(call: AppRequest, body: Adding, kind: ListKind) -> Effective:
    """All or, past the App's ceiling, none. Adding again sets the new expiry."""
    until_ms = expiry_ms(body.until, body.seconds, call.now_ms)
    written = await call.writes(body.reason, body.actor).add(kind, body.owner, body.members, until_ms)
    return await answered(call, Effective, written)


async def remove(call: AppRequest, body: Removing, kind: ListKind) -> Effective:
    """Removing a User that was never listed is no error."""
    written = await call.writes(body.reason, body.actor).remove(kind, body.owner, body.members)
    return await answered(call, Effective, written)


async def page(call: AppRequest, query: ListPage, kind: ListKind) -> MembersPage:
    """`?owner=&count=&token=`: entries newest first; `next` is the token of the following page, or null."""
    before = None if query.token is None else page_cursor(query.token, "token")
    lists = call.deps.store.lists
    return members_page(*await lists.page(call.app_key, kind, query.owner, call.now_ms, before, query.count))


def members_page(entries: Sequence[Entry], next_before: int | None) -> MembersPage:
    """Entries as an answer has them."""
    users = json_ids([member for member, _ in entries])
    untils = [None if until_ms >= FOREVER_MS else until_ms for _, until_ms in entries]
    return MembersPage(
        members=list(map(Listed, users, untils)), next=None if next_before is None else page_token(next_before)
    )


async def switch(call: AppRequest, body: Switching) -> Effective:
    """The Users' own switch; an App-wide one wins over it."""
    written = await call.writes(body.reason, body.actor).switch(body.users, body.on)
    return await answered(call, Effective, written)


def _endpoints(name: str, kind: ListKind, title: str) -> dict[tuple[str, str], Endpoint[AppRequest]]:
    return {
        (f"/v1/{name}", "POST"): Endpoint(
            f"Put Users on a {title}", partial(add, kind=kind), scopes=USERS, faults=("list-full",)
        ),
        (f"/v1/{name}", "DELETE"): Endpoint(f"Take Users off a {title}", partial(remove, kind=kind), scopes=USERS),
        (f"/v1/{name}", "GET"): Endpoint(f"Page through a {title}", partial(page, kind=kind), scopes=USERS),
    }


ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    **_endpoints("blacklist", ListKind.BLACKLIST, "Blacklist"),
    **_endpoints("whitelist", ListKind.WHITELIST, "Whitelist"),
    ("/v1/whitelist-switch", "PUT"): Endpoint("Switch Whitelists on or off", switch, scopes=USERS),
}
