"""`/user/block.json`, `/user/unblock.json`, `/user/block/query.json`: RongCloud's "block" is Gate's Ban."""

from __future__ import annotations

from gate.core.ids import shown
from gate.http.context import AppRequest
from gate.http.forms import Form
from gate.http.rongcloud.endpoint import MAX_IDS, Endpoint, Success
from gate.http.rongcloud.times import time_text

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


async def query(call: AppRequest, form: Form) -> Success:
    """The Bans in force, the latest end first; in pages where a page is asked for."""
    page = form.whole("page", 0, MAX_PAGE, default=0)
    size = form.whole("size", 1, MAX_PAGE_BANS, default=DEFAULT_PAGE_BANS)
    offset, count = ((page - 1) * size, size) if page else (0, UNPAGED_BANS)
    bans = await call.deps.store.bans.page(call.app_key, call.now_ms, offset, count)
    offset_minutes = call.facts.utc_offset_minutes
    users = [{"userId": shown(ban.user), "blockEndTime": time_text(ban.until_ms, offset_minutes)} for ban in bans]
    return Success({"users": users})


ENDPOINTS: dict[str, Endpoint] = {
    "/user/block.json": block,
    "/user/unblock.json": unblock,
    "/user/block/query.json": query,
}
