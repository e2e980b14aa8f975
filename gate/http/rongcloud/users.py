"""`/user/getToken.json`, `refresh`, `info`, `checkOnline`, `query`, `delusers`: who is registered, and as what.

A User is registered by its first Token. A Token of a User that is registered already costs one small write, which records
when it was minted.

`/user/token/expire.json`: Tokens minted up to a moment are refused, from the answer on.
"""

from __future__ import annotations

import os

from gate.core.ids import shown
from gate.core.registration import (
    MAX_NAME_CHARS,
    MAX_PORTRAIT_BYTES,
    name_is_too_long,
    portrait_is_too_long,
    registrable,
)
from gate.core.token import NONCE_BYTES, mint
from gate.errors import InvalidInput, NotInProduction, UserUnknown
from gate.http.context import AppRequest
from gate.http.forms import Form, TooLong
from gate.http.rongcloud.endpoint import MAX_IDS, Endpoint, Success, time_text

MAX_DELETED = 100
DEFAULT_PAGE_USERS = 20
MAX_PAGE_USERS = 100
MAX_PAGE = 1_000_000


async def get_token(call: AppRequest, form: Form) -> Success:
    """A new Token, for a User that is registered from now on; name and portrait overwrite those of before."""
    user = registrable(form.user("userId"))
    name, portrait = _profile(form)
    enrolment = await call.deps.store.users.enrol_for_token(call.facts, user, call.now_ms, name, portrait)
    token = mint(call.facts, user, enrolment.mint_at_ms, os.urandom(NONCE_BYTES), call.now_ms)
    return Success({"userId": shown(user), "token": token}, enrolment.written)


async def refresh(call: AppRequest, form: Form) -> Success:
    """Change a User's name or portrait; what is absent stays."""
    user = form.user("userId")
    name, portrait = _profile(form)
    await call.deps.store.users.refresh(call.app_key, user, name, portrait)
    return Success()


async def profile(call: AppRequest, form: Form) -> Success:
    """A User's name, portrait, and since when it is registered."""
    user = form.user("userId")
    (profile,) = await call.deps.store.users.profiles(call.app_key, [user])
    if profile is None:
        raise UserUnknown(user)
    created = time_text(profile.registered_at_ms, call.facts.utc_offset_minutes)
    return Success({"userName": profile.name, "userPortrait": profile.portrait, "createTime": created})


async def check_online(call: AppRequest, form: Form) -> Success:
    """Whether a User has a Session, as a string; unknown ones have none."""
    online = await call.deps.presence.is_online(call.app_key, form.user("userId"))
    return Success({"status": "1" if online else "0"})


async def query(call: AppRequest, form: Form) -> Success:
    """The registered Users, a page at a time, by since when: 0 oldest first, 1 newest first."""
    page = form.whole("page", 1, MAX_PAGE, default=1)
    size = form.whole("pageSize", 1, MAX_PAGE_USERS, default=DEFAULT_PAGE_USERS)
    newest_first = form.whole("order", 0, 1, default=0) == 1
    users = call.deps.store.users
    profiles = await users.page(call.app_key, (page - 1) * size, size, newest_first=newest_first)
    offset_minutes = call.facts.utc_offset_minutes
    rows = [
        {
            "userId": shown(one.user),
            "userName": one.name,
            "userPortrait": one.portrait,
            "regTime": time_text(one.registered_at_ms, offset_minutes),
        }
        for one in profiles
    ]
    return Success({"total": await users.count(call.app_key), "users": rows})


async def delete(call: AppRequest, form: Form) -> Success:
    """Delete 1 to 100 Users with everything of their own, registered or not. In development only."""
    users = form.joined_users("userId", MAX_DELETED)
    if call.facts.environment == "production":
        raise NotInProduction("Users can be deleted in the development environment only; deactivate them instead.")
    return Success(written=await call.deps.store.users.erase(call.app_key, users, call.now_ms))


def _profile(form: Form) -> tuple[str | None, str | None]:
    name, portrait = form.text("name"), form.text("portraitUri")
    if name is not None and name_is_too_long(name):
        raise TooLong("name", f"must be at most {MAX_NAME_CHARS} characters, {len(name)} were sent")
    if portrait is not None and portrait_is_too_long(portrait):
        size = len(portrait.encode())
        raise TooLong("portraitUri", f"must be at most {MAX_PORTRAIT_BYTES} bytes, {size} were sent")
    return name, portrait


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


ENDPOINTS: dict[str, Endpoint] = {
    "/user/getToken.json": get_token,
    "/user/refresh.json": refresh,
    "/user/info.json": profile,
    "/user/checkOnline.json": check_online,
    "/user/query.json": query,
    "/user/delusers.json": delete,
    "/user/token/expire.json": expire,
}
