"""`/user/getToken.json`, `refresh`, `info`, `checkOnline`, `query`, `delusers`: who is registered, and as what.

A User is registered by its first Token. A Token of a User that is registered already costs one small write, which records
when it was minted.

`/user/token/expire.json`: Tokens minted up to a moment are refused, from the answer on.

`/user/deactivate.json`, `/user/deactivate/query.json`, `/user/reactivate.json`: effective at once; webhooks report the rest,
under the `operateId` that the answer names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gate.core.ids import shown
from gate.errors import InvalidInput, UserUnknown
from gate.http.context import AppRequest
from gate.http.endpoint import Endpoint
from gate.http.fields import MAX_REVOKED_AHEAD_MS, Portrait, ProfileName, RegistrableId
from gate.http.forms import FormBody
from gate.http.rongcloud.endpoint import LAST_PAGE, JoinedId, Success, UserForm, UserIds, Users, time_text
from gate.store.deactivation import Operation

MAX_DELETED = 100
DEFAULT_PAGE_USERS = 20
MAX_USERS_A_PAGE = 100
# Below it a moment counts as seconds: as milliseconds it is in 1973, and revoking would quietly revoke nothing.
_FIRST_MS = 100_000_000_000
MAX_DIGITS_MS = 9_999_999_999_999_999

Name = Annotated[ProfileName, Meta(description="Empty or absent: stays as it is.")]
PortraitUri = Annotated[Portrait, Meta(description="Likewise; at most 1,024 bytes.")]


class RegistrationForm(FormBody, frozen=True, rename={"user": "userId", "portrait": "portraitUri"}):
    """A User to register."""

    user: RegistrableId
    name: Name | None = None
    portrait: PortraitUri | None = None


class ProfileForm(FormBody, frozen=True, rename={"user": "userId", "portrait": "portraitUri"}):
    """What a User is called from now on."""

    user: bytes
    name: Name | None = None
    portrait: PortraitUri | None = None


class UsersPageForm(FormBody, frozen=True, rename={"size": "pageSize"}):
    """Which page."""

    page: Annotated[int, Meta(ge=1, le=LAST_PAGE)] = 1
    size: Annotated[int, Meta(ge=1, le=MAX_USERS_A_PAGE)] = DEFAULT_PAGE_USERS
    order: Annotated[int, Meta(ge=0, le=1, description="0 oldest first, 1 newest first.")] = 0


class DeletionForm(FormBody, frozen=True, rename={"users": "userId"}):
    """Whom."""

    users: Annotated[list[JoinedId], Meta(min_length=1, max_length=MAX_DELETED, examples=[["alice"]])]


class TokenMinted(Success, kw_only=True):
    """A new Token; earlier ones stay valid."""

    userId: str
    token: str


class UserProfile(Success, kw_only=True):
    """A registered User. `createTime` is in the App's time zone."""

    userName: str
    userPortrait: str
    createTime: str


class OnlineState(Success, kw_only=True):
    """As a string, as RongCloud has it."""

    status: Literal["0", "1"]


class RolledUser(Struct, kw_only=True):
    """One registered User. `regTime` is in the App's time zone."""

    userId: str
    userName: str
    userPortrait: str
    regTime: str


class UserRoll(Success, kw_only=True):
    """One page; `total` counts all registered Users."""

    total: int
    users: list[RolledUser]


async def get_token(call: AppRequest, form: RegistrationForm) -> TokenMinted:
    """A new Token, for a User that is registered from now on; name and portrait overwrite those of before."""
    minted = await call.writes().mint(form.user, form.name, form.portrait)
    if minted.written is not None:
        call.effect = await call.effective(minted.written)
    return TokenMinted(userId=shown(form.user), token=minted.token)


async def refresh(call: AppRequest, form: ProfileForm) -> Success:
    """Change a User's name or portrait; what is absent stays."""
    # Not waited for: no Replica holds names.
    await call.deps.store.users.refresh(call.app_key, form.user, form.name, form.portrait)
    return Success()


async def profile(call: AppRequest, form: UserForm) -> UserProfile:
    """A User's name, portrait, and since when it is registered."""
    (profile,) = await call.deps.store.users.profiles(call.app_key, [form.user])
    if profile is None:
        raise UserUnknown(form.user)
    created = time_text(profile.registered_at_ms, call.facts.utc_offset_minutes)
    return UserProfile(userName=profile.name, userPortrait=profile.portrait, createTime=created)


async def check_online(call: AppRequest, form: UserForm) -> OnlineState:
    """Whether a User has a Session, as a string; unknown ones have none."""
    online = await call.deps.presence.is_online(call.app_key, form.user)
    return OnlineState(status="1" if online else "0")


async def query(call: AppRequest, form: UsersPageForm) -> UserRoll:
    """The registered Users, a page at a time, by since when: 0 oldest first, 1 newest first."""
    users, newest_first = call.deps.store.users, form.order == 1
    profiles = await users.page(call.app_key, (form.page - 1) * form.size, form.size, newest_first=newest_first)
    offset_minutes = call.facts.utc_offset_minutes
    rows = [
        RolledUser(
            userId=shown(one.user),
            userName=one.name,
            userPortrait=one.portrait,
            regTime=time_text(one.registered_at_ms, offset_minutes),
        )
        for one in profiles
    ]
    return UserRoll(total=await users.count(call.app_key), users=rows)


async def delete(call: AppRequest, form: DeletionForm) -> Success:
    """Delete 1 to 100 Users with everything of their own, registered or not. In development only."""
    written = await call.writes().erase(form.users)
    call.effect = await call.effective(written)
    return Success()


class ExpireForm(FormBody, frozen=True, rename={"users": "userId"}):
    """Whose Tokens, and which."""

    users: Users
    time: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_DIGITS_MS,
            examples=[1_700_000_000_000],
            description="A moment, Unix ms, at most a day ahead: Tokens minted before it are refused.",
        ),
    ]


async def expire(call: AppRequest, form: ExpireForm) -> Success:
    """Revoke the Tokens of 1 to 20 Users that were minted up to `time`, in ms; those revoked before stay revoked."""
    before_ms = form.time if form.time >= _FIRST_MS else form.time * 1_000
    if before_ms > call.now_ms + MAX_REVOKED_AHEAD_MS:
        raise InvalidInput("time", f"must lie at most a day ahead, in milliseconds: {form.time} was sent")
    # A Token of that very millisecond may have been answered before the caller looked at its clock.
    written = await call.writes().revoke_tokens(form.users, before_ms + 1)
    call.effect = await call.effective(written)
    return Success()


MAX_DEACTIVATED = 100
# Also what a query without a size answers.
MAX_DEACTIVATED_A_PAGE = 50
# The store pages to a depth of 100,000.
LAST_DEACTIVATED_PAGE = 100_000 // MAX_DEACTIVATED_A_PAGE


class DeactivationForm(FormBody, frozen=True, rename={"users": "userId"}):
    """Whom."""

    users: Annotated[list[JoinedId], Meta(min_length=1, max_length=MAX_DEACTIVATED, examples=[["alice"]])]


class DeactivatedForm(FormBody, frozen=True, rename={"page": "pageNo", "size": "pageSize"}):
    """Which page."""

    page: Annotated[int, Meta(ge=1, le=LAST_DEACTIVATED_PAGE)] = 1
    size: Annotated[int, Meta(ge=1, le=MAX_DEACTIVATED_A_PAGE)] = MAX_DEACTIVATED_A_PAGE


class OperationStarted(Success, kw_only=True):
    """Effective already; webhooks report the result of each User under this id."""

    operateId: str


async def deactivate(call: AppRequest, form: DeactivationForm) -> OperationStarted:
    """Deactivate 1 to 100 Users; again is no error."""
    return await _started(call, await call.writes().deactivate(form.users))


async def reactivate(call: AppRequest, form: DeactivationForm) -> OperationStarted:
    """Give 1 to 100 ids back; the callback of each says whether it is, or whether it was too early."""
    # RongCloud answers 200 and reports by User, so one that is too early must not refuse the others.
    return await _started(call, await call.writes().reactivate(form.users, refuse_early=False))


async def query_deactivated(call: AppRequest, form: DeactivatedForm) -> UserIds:
    """The deactivated Users, those being erased included, the latest first."""
    found = await call.deps.store.deactivation.page(call.app_key, (form.page - 1) * form.size, form.size)
    return UserIds(users=[shown(gone.user) for gone in found])


async def _started(call: AppRequest, operation: Operation) -> OperationStarted:
    if operation.written is not None:
        call.effect = await call.effective(operation.written)
    return OperationStarted(operateId=operation.id)


ENDPOINTS: dict[str, Endpoint[AppRequest]] = {
    "/user/getToken.json": Endpoint("Register a User and mint a Token", get_token, faults=(2007,)),
    "/user/refresh.json": Endpoint("Change a User's name or portrait", refresh),
    "/user/info.json": Endpoint("Show a User", profile),
    "/user/checkOnline.json": Endpoint("Whether a User is online", check_online),
    "/user/query.json": Endpoint("Page through the registered Users", query),
    "/user/delusers.json": Endpoint("Delete Users", delete),
    "/user/token/expire.json": Endpoint("Revoke Tokens", expire),
    "/user/deactivate.json": Endpoint("Deactivate Users", deactivate),
    "/user/deactivate/query.json": Endpoint("Page through the deactivated Users", query_deactivated),
    "/user/reactivate.json": Endpoint("Give deactivated ids back", reactivate),
    # What official SDKs called them before (Java 3.2.27 to 3.3.1, PHP 3.1.4 to 3.2.4).
    "/user/activate.json": Endpoint("Another name of reactivate", reactivate),
    "/user/abandon.json": Endpoint("Another name of deactivate", deactivate),
    "/user/abandon/query.json": Endpoint("Page through the deactivated Users", query_deactivated),
}
