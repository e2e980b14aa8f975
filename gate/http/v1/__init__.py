"""`/v1/*`: what RongCloud's API lacks. JSON in and out, HTTP Basic with App key and secret, or an operator's password.

Every mistake of a request is named at once where that is possible. An endpoint declares what it takes and
what it answers (`gate.http.endpoint`); a write is answered once it is effective.
"""

from __future__ import annotations

from gate.core.operators import OperatorRole
from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.v1 import audit, bulk, check, feed, gating, presence, users

# By path and method.
ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    **check.ENDPOINTS,
    **users.ENDPOINTS,
    **gating.ENDPOINTS,
    **bulk.ENDPOINTS,
    **audit.ENDPOINTS,
    **presence.ENDPOINTS,
    **feed.ENDPOINTS,
}

_ROLES: dict[tuple[str, str], OperatorRole | None] = {
    (check.PATH, "POST"): "viewer",
    ("/v1/presence", "POST"): "viewer",
    # A deletion is final, and the holder of a Token acts as that User. Bulk operations include both.
    ("/v1/users", "DELETE"): "admin",
    ("/v1/tokens", "POST"): "admin",
    ("/v1/bulk", "POST"): "admin",
    # A stream lasts for hours, and asks again whether its caller is still accepted: of Apps alone, without Redis.
    ("/v1/events", "GET"): None,
    ("/v1/events", "POST"): None,
}


def role_of(path: str, method: str) -> OperatorRole | None:
    """The role that an operator needs who calls this for an App; None where no operator may."""
    return _ROLES.get((path, method), "viewer" if method == "GET" else "operator")


__all__ = ["ENDPOINTS", "role_of"]
