"""`/v1/*`: what RongCloud's API lacks. JSON in and out, HTTP Basic with App key and secret.

Every mistake of a request is named at once where that is possible. An endpoint declares what it takes and
what it answers (`gate.http.endpoint`); a write is answered once it is effective.
"""

from __future__ import annotations

from aiohttp import web

from gate.http.context import APP_REQUEST, AppRequest
from gate.http.endpoint import Endpoint, responded
from gate.http.v1 import audit, bulk, changes, check, dossier, events, lists, penalties, presence, users

ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    **check.ENDPOINTS,
    **users.ENDPOINTS,
    **dossier.ENDPOINTS,
    **penalties.ENDPOINTS,
    **lists.ENDPOINTS,
    **bulk.ENDPOINTS,
    **audit.ENDPOINTS,
    **presence.ENDPOINTS,
    **changes.ENDPOINTS,
    **events.ENDPOINTS,
}
"""By path and method."""


async def answer(endpoint: Endpoint[AppRequest], request: web.Request) -> web.StreamResponse:
    """Run the endpoint for the App that was authenticated."""
    return responded(await endpoint(request[APP_REQUEST]))


__all__ = ["ENDPOINTS", "answer"]
