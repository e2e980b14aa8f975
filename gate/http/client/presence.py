"""`GET /client/v1/presence?user=…&user=…`: who of these is online, as the caller may see it.

Where the App has `hide_presence` on, Users whose lists refuse the caller are shown as offline and never seen.
"""

from __future__ import annotations

from gate.errors import InvalidInput
from gate.http.client.endpoint import ClientRequest, Endpoint
from gate.http.v1.presence_json import seen_presences

MAX_USERS = 1_000
"""Of one call: more than a list on a screen, and some 20 kB of a query string."""


async def presences(call: ClientRequest) -> dict[str, object]:
    """→ presence, in the order of the Users; repeated ones once."""
    # Counted before they are decoded, which costs as much as answering.
    asked = call.request.raw_path.count("user=")
    if asked > MAX_USERS:
        raise InvalidInput("user", f"must be given at most {MAX_USERS} times, {asked} were sent")
    call.deps.limiter.spend_asked(call.facts, call.user, asked)
    users = call.query().raw_users("user", MAX_USERS)
    if not users:
        raise InvalidInput("user", "is required")
    return {"presence": await seen_presences(call, users, call.user)}


ENDPOINTS: dict[tuple[str, str], Endpoint] = {("/client/v1/presence", "GET"): presences}
