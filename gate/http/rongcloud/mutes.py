"""`/user/chat/fb/set.json` and `querylist.json`: RongCloud's single-chat mute is Gate's Mute, without an end.

`/v1/mutes` has Mutes that end.
"""

from __future__ import annotations

from gate.core.ids import shown
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput
from gate.http.context import AppRequest
from gate.http.forms import Form, shown_value
from gate.http.rongcloud.endpoint import Endpoint, Success

MAX_MUTED = 1_000
DEFAULT_ROWS = 100
MAX_ROWS = 200
MAX_OFFSET = 99_000
"""The store pages to a depth of 100,000."""
CHAT_TYPE = "PERSON"


async def set_mute(call: AppRequest, form: Form) -> Success:
    """Mute 1 to 1,000 Users, or let them speak again. Deactivated Users are not muted."""
    users = form.users("userId", MAX_MUTED)
    muting = form.whole("state", 0, 1) == 1
    _expect_single_chat(form)
    mutes = call.deps.store.mutes
    if muting:
        return Success(written=(await mutes.impose_on_active(call.app_key, users, FOREVER_MS, call.now_ms)).written)
    return Success(written=await mutes.lift(call.app_key, users, call.now_ms))


async def query(call: AppRequest, form: Form) -> Success:
    """Who is muted, those without an end first."""
    count = form.whole("num", 1, MAX_ROWS, default=DEFAULT_ROWS)
    offset = form.whole("offset", 0, MAX_OFFSET, default=0)
    _expect_single_chat(form)
    mutes = call.deps.store.mutes
    page = await mutes.page(call.app_key, call.now_ms, offset, count)
    total = await mutes.count(call.app_key, call.now_ms)
    return Success({"total": total, "users": [shown(mute.user) for mute in page]})


def _expect_single_chat(form: Form) -> None:
    sent = form.one("type") or CHAT_TYPE.encode()
    if sent.upper() != CHAT_TYPE.encode():
        raise InvalidInput(
            "type", f"must be {CHAT_TYPE}: groups and rooms are not Gate's, {shown_value(sent)} was sent"
        )


ENDPOINTS: dict[str, Endpoint] = {
    "/user/chat/fb/set.json": set_mute,
    "/user/chat/fb/querylist.json": query,
}
