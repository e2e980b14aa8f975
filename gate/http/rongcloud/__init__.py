"""RongCloud's Server API for users, compatible to the field: paths, form fields, answers.

Each file is one family and ends in its table of endpoints. An endpoint takes the call and its form, and returns what
its answer holds beside `"code": 200`. Limits are RongCloud's own.
"""

from __future__ import annotations

from gate.http.rongcloud import bans, deactivation, lists, mutes, tokens, users, whitesetting
from gate.http.rongcloud.endpoint import Endpoint

ENDPOINTS: dict[str, Endpoint] = {
    **users.ENDPOINTS,
    **tokens.ENDPOINTS,
    **deactivation.ENDPOINTS,
    **bans.ENDPOINTS,
    **mutes.ENDPOINTS,
    **lists.ENDPOINTS,
    **whitesetting.ENDPOINTS,
}

__all__ = ["ENDPOINTS", "Endpoint"]
