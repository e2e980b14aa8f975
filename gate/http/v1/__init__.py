"""`/v1/*`: what RongCloud's API lacks. JSON in and out, HTTP Basic with App key and secret.

Every mistake of a request is named at once where that is possible. An endpoint declares what it takes and
what it answers (`gate.http.endpoint`); a write is answered once it is effective.
"""

from __future__ import annotations

from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.v1 import audit, bulk, changes, check, events, lists, penalties, presence, users

ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    **check.ENDPOINTS,
    **users.ENDPOINTS,
    **penalties.ENDPOINTS,
    **lists.ENDPOINTS,
    **bulk.ENDPOINTS,
    **audit.ENDPOINTS,
    **presence.ENDPOINTS,
    **changes.ENDPOINTS,
    **events.ENDPOINTS,
}
"""By path and method."""

__all__ = ["ENDPOINTS"]
