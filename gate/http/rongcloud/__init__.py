"""RongCloud's Server API for users, compatible to the field: paths, form fields, answers.

Each file is one family and ends in its table of endpoints. An endpoint declares the form that
it takes and what it answers (`gate.http.endpoint`). Limits are RongCloud's own.
"""

from __future__ import annotations

from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.rongcloud import gating, users

ENDPOINTS: dict[str, Endpoint[AppRequest]] = {
    **users.ENDPOINTS,
    **gating.ENDPOINTS,
}

__all__ = ["ENDPOINTS"]
