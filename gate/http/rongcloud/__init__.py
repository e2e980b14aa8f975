"""RongCloud's Server API for users, compatible to the field: paths, form fields, answers.

Each file is one family and ends in its table of endpoints. An endpoint declares the form that
it takes and what it answers (`gate.http.endpoint`). Limits are RongCloud's own.
"""

from __future__ import annotations

from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.rongcloud import lists, penalties, users

ENDPOINTS: dict[str, Endpoint[AppRequest]] = {
    **users.ENDPOINTS,
    **penalties.ENDPOINTS,
    **lists.ENDPOINTS,
}

__all__ = ["ENDPOINTS"]
