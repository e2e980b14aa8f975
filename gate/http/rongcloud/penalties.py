"""Bans and Mutes as RongCloud has them.

    /user/block.json, unblock.json, block/query.json     RongCloud's "block" is Gate's Ban
    /user/chat/fb/set.json, querylist.json               its single-chat mute is Gate's Mute, without an end

`/v1/mutes` has Mutes that end, `/v1/bans` Bans that do not.
"""

from __future__ import annotations

from gate.core.ids import shown
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput
from gate.http.context import AppRequest
from gate.http.forms import Form, shown_value
from gate.http.rongcloud.endpoint import MAX_IDS, Endpoint, Success, time_text

MAX_MINUTES = 43_200
"""30 days. There is no permanent Ban in this API; `/v1/bans` has one."""
MINUTE_MS = 60_000
UNPAGED_BANS = 1_000
"""Without a page, the first thousand are answered."""
DEFAULT_PAGE_BANS = 50
MAX_PAGE_BANS = 1_000
MAX_PAGE = 1_000_000


async def block(call: AppRequest, form: Form) -> Success:
    """Ban 1 to 20 Users for some minutes; a later Ban replaces the earlier. Deactivated Users are skipped."""
    users = form.users("userId", MAX_IDS)
    until_ms = call.now_ms + form.whole("minute", 1, MAX_MINUTES) * MINUTE_MS
    imposed = await call.deps.store.bans.impose_on_active(call.app_key, users, until_ms, call.now_ms)
    return Success(written=imposed.written)


async def unblock(call: AppRequest, form: Form) -> Success:
    """Lift the Bans of 1 to 20 Users, banned or not."""
    users = form.users("userId", MAX_IDS)
    return Success(written=await call.deps.store.bans.lift(call.app_key, users, call.now_ms))


async def query_bans(call: AppRequest, form: Form) -> Success:
    """The Bans in force, the latest end first; in pages where a page is asked for."""
    page = form.whole("page", 0, MAX_PAGE, default=0)
    size = form.whole("size", 1, MAX_PAGE_BANS, default=DEFAULT_PAGE_BANS)
    offset, count = ((page - 1) * size, size) if page else (0, UNPAGED_BANS)
    bans = await call.deps.store.bans.page(call.app_key, call.now_ms, offset, count)
    offset_minutes = call.facts.utc_offset_minutes
    users = [{"userId": shown(ban.user), "blockEndTime": time_text(ban.until_ms, offset_minutes)} for ban in bans]
    return Success({"users": users})


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


async def query_mutes(call: AppRequest, form: Form) -> Success:
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
    "/user/block.json": block,
    "/user/unblock.json": unblock,
    "/user/block/query.json": query_bans,
    "/user/chat/fb/set.json": set_mute,
    "/user/chat/fb/querylist.json": query_mutes,
}
