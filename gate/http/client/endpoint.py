"""`/client/v1/*`: what an end user's own app may ask with its Token, who calls, and what lets a web page of any site call.

    /client/v1/blacklist    a User's own Blacklist, the same that `/user/blacklist/*.json` and `/v1/blacklist` change
        GET                 the list, newest first, in pages
        GET ?user=          whether one User is on it; answered from this node's Replica, so also while Redis is away
        POST                put Users on it, for good or until a moment
        DELETE              take Users off it
    /client/v1/presence     GET ?user=…&user=…: who of these is online, as the caller may see it

Users need not exist to be blocked, as everywhere. Where the App has `hide_presence` on, Users whose lists refuse the caller are
shown as offline and never seen. Messages on a WebSocket call the same functions.

Any origin may call (Cross-Origin Resource Sharing), because nothing of a caller's authority travels by itself: the page that
has the Token puts it in a header, and cookies play no part (so `Access-Control-Allow-Credentials` is never sent).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from aiohttp import web
from msgspec import Meta, Struct

from gate.core import token
from gate.core.model import AppFacts, ListKind
from gate.core.scopes import user_caller
from gate.errors import InvalidInput
from gate.http.auth import bearer
from gate.http.bodies import Payer
from gate.http.context import AppContext, AppRequest, Deps, RequestContext
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
from gate.http.forms import Handle, Query
from gate.http.requests import Body, Schema
from gate.http.responses import REQUEST_ID
from gate.http.v1.gating import MembersPage, members_page
from gate.http.v1.presence import PresenceAnswer, seen_presences
from gate.replica.reader import app_of
from gate.store.writer import WriteReceipt

# How long a browser need not ask again.
_PREFLIGHT_S = 86_400


class ClientContext(AppContext):
    """A User whose Token was found valid."""

    __slots__ = ()

    user: bytes


@dataclass(slots=True)
class MessageContext(ClientContext):
    """What came as a message."""

    deps: Deps
    facts: AppFacts
    now_ms: int
    user: bytes


@dataclass(slots=True)
class ClientRequest(AppRequest, ClientContext):
    """A request with a Token that is valid."""

    user: bytes
    """Whose Token it is."""

    @property
    def payer(self) -> Payer:
        """The User."""
        return Payer("client", (self.app_key, self.user))


def client_request(request: web.Request, deps: Deps, now_ms: int) -> ClientRequest:
    """The call of the User whose Token the request bears; `TokenRefused` if it is not valid. Redis is not asked."""
    given = bearer(request.headers)
    with deps.replica as snapshot:
        # From one snapshot: the settings are those by which the Token was accepted.
        claims = token.verify(given, snapshot.app, now_ms)
        facts = app_of(snapshot, claims.app).app
    return ClientRequest(request, deps, facts, now_ms, user_caller(claims.user), claims.user)


async def preflight(methods: Iterable[str], request: web.Request) -> web.Response:
    """The answer to a browser that asks whether it may."""
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
            "Access-Control-Allow-Headers": f"Authorization, Content-Type, {REQUEST_ID}",
            "Access-Control-Max-Age": str(_PREFLIGHT_S),
        },
    )


# The caller's own Blacklist

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


# Presence, as the caller may see it

# Of one call: more than a list on a screen, and some 20 kB of a query string.
MAX_CLIENT_PRESENCE_USERS = 1_000


class PresenceQuery(Query, frozen=True, rename={"users": "user"}):
    """Whose Presence."""

    users: Annotated[list[bytes], Meta(min_length=1, max_length=MAX_CLIENT_PRESENCE_USERS, examples=[["alice"]])]

    @classmethod
    async def run(cls, handler: Handle, call: RequestContext) -> Any:
        """As of any query, once its Users are counted."""
        assert isinstance(call, ClientRequest), "only endpoints of /client take this query"
        # Counted before they are decoded, which costs as much as answering.
        count = call.request.raw_path.count("user=")
        if count > MAX_CLIENT_PRESENCE_USERS:
            raise InvalidInput("user", f"must be given at most {MAX_CLIENT_PRESENCE_USERS} times, {count} were sent")
        call.deps.limiter.spend_asked(call.facts, call.user, count)
        query = cls.read(call.query())
        if not query.users:
            raise InvalidInput("user", "is required")
        return await handler(call, query)


async def presences(call: ClientRequest, query: PresenceQuery) -> PresenceAnswer:
    """→ presence, in the order of the Users; repeated ones once."""
    return await seen_presences(call, query.users, call.user)


ENDPOINTS: dict[tuple[str, str], Endpoint[ClientRequest]] = {
    ("/client/v1/blacklist", "GET"): Endpoint("The caller's Blacklist, or whether one User is on it", look),
    ("/client/v1/blacklist", "POST"): Endpoint("Put Users on the caller's Blacklist", add, faults=("list-full",)),
    ("/client/v1/blacklist", "DELETE"): Endpoint("Take Users off the caller's Blacklist", remove),
    ("/client/v1/presence", "GET"): Endpoint(
        "Who of these Users is online, as the caller may see it", presences, faults=("stale",)
    ),
}
