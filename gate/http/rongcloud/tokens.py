"""`/user/token/expire.json`: Tokens minted up to a moment are refused, from the answer on."""

from __future__ import annotations

from gate.errors import InvalidInput
from gate.http.context import AppRequest
from gate.http.forms import Form
from gate.http.rongcloud.endpoint import MAX_IDS, Endpoint, Success

MAX_AHEAD_MS = 86_400_000
"""Until then the User gets no Token, so further ahead is a mistake in units more likely than a wish."""
_FIRST_MS = 100_000_000_000
"""Below it a moment counts as seconds: as milliseconds it lies in 1973, where revoking would quietly revoke nothing."""
MAX_DIGITS_MS = 9_999_999_999_999_999


async def expire(call: AppRequest, form: Form) -> Success:
    """Revoke the Tokens of 1 to 20 Users that were minted up to `time`, in ms; those revoked before stay revoked."""
    users = form.users("userId", MAX_IDS)
    moment = form.whole("time", 1, MAX_DIGITS_MS)
    before_ms = moment if moment >= _FIRST_MS else moment * 1_000
    if before_ms > call.now_ms + MAX_AHEAD_MS:
        raise InvalidInput("time", f"must lie at most a day ahead, in milliseconds: {moment} was sent")
    # A Token of that very millisecond may have been answered before the caller looked at its clock.
    return Success(written=await call.deps.store.users.revoke_tokens(call.app_key, users, before_ms + 1, call.now_ms))


ENDPOINTS: dict[str, Endpoint] = {"/user/token/expire.json": expire}
