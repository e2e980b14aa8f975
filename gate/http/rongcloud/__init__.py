"""RongCloud's Server API for users, compatible to the field: paths, form fields, answers.

Each file is one family and ends in its table of endpoints. An endpoint takes the call and its form, and returns what
its answer holds beside `"code": 200`. Limits are RongCloud's own.
"""

from __future__ import annotations

from gate.http.rongcloud import deactivation, lists, penalties, users
from gate.http.rongcloud.endpoint import Endpoint

ENDPOINTS: dict[str, Endpoint] = {
    **users.ENDPOINTS,
    **deactivation.ENDPOINTS,
    **penalties.ENDPOINTS,
    **lists.ENDPOINTS,
}

__all__ = ["ENDPOINTS", "Endpoint"]
