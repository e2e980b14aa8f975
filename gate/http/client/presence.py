"""`GET /client/v1/presence?user=…&user=…`: who of these is online, as the caller may see it.

Where the App has `hide_presence` on, Users whose lists refuse the caller are shown as offline and never seen.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from gate.errors import InvalidInput
from gate.http.client.endpoint import ClientRequest
from gate.http.context import RequestContext
from gate.http.endpoint import Endpoint
from gate.http.forms import Handle, Query
from gate.http.v1.presence import PresenceAnswer, seen_presences

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
    ("/client/v1/presence", "GET"): Endpoint(
        "Who of these Users is online, as the caller may see it", presences, faults=("stale",)
    )
}
