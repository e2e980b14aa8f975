"""`/v1/users`: who is registered, and what is known of one User, in full and from Redis itself.

    POST /v1/users             register a User, or change what it is called; GET lists, DELETE deletes (development only)
    GET /v1/users/{user}       its profile, and every fact that bears on it; PATCH changes the profile
    GET /v1/users/{user}/dossier   everything that is kept about it
    POST /v1/tokens            mint a Token, as `/user/getToken.json`; DELETE revokes Tokens

An id in a path is percent-encoded bytes of any kind. `core.registration` decides what may be registered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gate.core.model import FOREVER_MS, NO_FACTS, ListKind
from gate.core.scopes import USERS
from gate.errors import InvalidInput, UserUnknown
from gate.http.context import AppContext, AppRequest
from gate.http.endpoint import Effective, EffectiveIfAny, Endpoint, answered
from gate.http.fields import (
    FIRST_UNTIL_MS,
    MAX_REVOKED_AHEAD_MS,
    Actor,
    IdJson,
    PlaceToken,
    Portrait,
    ProfileName,
    Reason,
    RegistrableId,
    json_id,
    place_of,
    place_token,
    until_json,
)
from gate.http.forms import Query
from gate.http.requests import Body
from gate.http.v1.audit import AuditLine, AuditPage, audit_line
from gate.http.v1.gating import MembersPage, Penalty, Users, members_page
from gate.store.lists import Entry
from gate.store.penalties import Penalties
from gate.store.users import Profile

MAX_PROFILES_A_PAGE = 1_000
# No limit of the store's: a number of any length would be one that Redis refuses.
MAX_OFFSET = 1_000_000_000

BeforeMs = Annotated[
    int,
    Meta(
        description="A moment, Unix ms, at most a day ahead; by default now.",
        extra_json_schema={"minimum": FIRST_UNTIL_MS, "maximum": FOREVER_MS},
    ),
]
"""`before_mistakes` checks it, since the most that it may be moves with the clock."""


class Profiled(Body, frozen=True):
    """A User to register; a name or portrait that is absent stays as it is."""

    user: RegistrableId
    name: ProfileName | None = None
    portrait: Portrait | None = None


class ProfileChange(Body, frozen=True):
    """What a User is called from now on; what is absent stays."""

    name: ProfileName | None = None
    portrait: Portrait | None = None


class Deleting(Body, frozen=True):
    """Whom, why and by whom."""

    users: Users
    reason: Reason = ""
    actor: Actor = ""


class Revoking(Body, frozen=True):
    """Whose Tokens, and minted before when, in ms: without a moment, all that there are."""

    users: Users
    before: BeforeMs | None = None
    reason: Reason = ""
    actor: Actor = ""

    def mistakes(self, now_ms: int) -> Iterable[InvalidInput]:
        """A moment that is too far ahead, or in seconds."""
        return before_mistakes(self.before, now_ms)


class UserPage(Query, frozen=True):
    """Which page of the registered Users."""

    offset: Annotated[int, Meta(ge=0, le=MAX_OFFSET)] = 0
    count: Annotated[int, Meta(ge=1, le=MAX_PROFILES_A_PAGE)] = MAX_PROFILES_A_PAGE
    order: Annotated[
        Literal["oldest", "newest"],
        Meta(
            description="Which Users come first.",
            extra={"must": "must be oldest or newest, whichever comes first"},
        ),
    ] = "oldest"
    token: PlaceToken | None = None


class RegisteredUser(Struct, kw_only=True):
    """`registered_at` is null for a User that has facts and was never registered."""

    user: IdJson
    registered_at: int | None
    name: str
    portrait: str


class UsersPage(Struct, kw_only=True):
    """One page; `total` counts all registered Users. `next` where more follow."""

    total: int
    users: list[RegisteredUser]
    next: str | UnsetType = UNSET


class KnownUser(RegisteredUser, kw_only=True):
    """A User's profile and facts. Null is what is not so."""

    deactivated: bool
    ban: Penalty | None
    mute: Penalty | None
    whitelist_on: bool
    blacklist_size: int
    whitelist_size: int
    tokens_valid_from: int | None
    online: bool


class Registration(EffectiveIfAny, kw_only=True):
    """`created` is false for a User that was registered already and is called the same."""

    user: IdJson
    created: bool


class Minting(Registration, kw_only=True):
    """`expires` null: never."""

    token: str
    expires: int | None


async def register(call: AppRequest, body: Profiled) -> Registration:
    """→ user, created. Registering again is fine, and changes the name and portrait that are given."""
    written = await call.writes().register(body.user, body.name, body.portrait)
    return await answered(call, Registration, written, user=json_id(body.user), created=written is not None)


async def mint_token(call: AppRequest, body: Profiled) -> Minting:
    """→ user, token, expires (ms, null for never), created. Registers the User if it is not."""
    minted = await call.writes().mint(body.user, body.name, body.portrait)
    return await answered(
        call,
        Minting,
        minted.written,
        user=json_id(body.user),
        created=minted.written is not None,
        token=minted.token,
        # 0: never.
        expires=minted.expires_at_ms or None,
    )


async def revoke(call: AppRequest, body: Revoking) -> Effective:
    """Refuse Tokens of before; those revoked before stay revoked."""
    written = await call.writes(body.reason, body.actor).revoke_tokens(body.users, body.before)
    return await answered(call, Effective, written)


async def roll(call: AppRequest, query: UserPage) -> UsersPage:
    """`?count=&order=oldest|newest&token=` → total, users, in the order of their registration; next, if more follow."""
    users, newest_first, place = call.deps.store.users, query.order == "newest", None
    if query.offset:
        # By offset: any depth, by a binary search over moments. A token is exact while Users come and go.
        page = await users.page(call.app_key, query.offset, query.count, newest_first=newest_first)
    else:
        before = place_of(query.token) if query.token else None
        page, place = await users.behind(call.app_key, before, query.count, newest_first=newest_first)
    return UsersPage(
        # Read after the page, which it need not agree with: it is for people.
        total=await users.count(call.app_key),
        users=[RegisteredUser(**_profile_members(one)) for one in page],
        next=place_token(place) if place else UNSET,
    )


async def delete(call: AppRequest, body: Deleting) -> Effective:
    """Delete Users with everything of their own, registered or not; their Tokens die. In development only."""
    written = await call.writes(body.reason, body.actor).erase(body.users)
    return await answered(call, Effective, written)


async def show(call: AppRequest) -> KnownUser:
    """Everything about one User but its lists and its audit, which the dossier adds."""
    return (await known_of(call, call.path_user())).found


async def change(call: AppRequest, body: ProfileChange) -> KnownUser:
    """Change a registered User's profile → the same as GET."""
    user = call.path_user()
    # Not waited for: no Replica holds names.
    await call.deps.store.users.refresh(call.app_key, user, body.name, body.portrait)
    return (await known_of(call, user)).found


class Known(NamedTuple):
    """A User's profile and facts, as answers have them, and whether there are any."""

    user: bytes
    is_anything: bool
    shown: KnownUser

    @property
    def found(self) -> KnownUser:
        """What to answer; `UserUnknown` if nothing is known."""
        if not self.is_anything:
            raise UserUnknown(self.user)
        return self.shown


async def known_of(call: AppContext, user: bytes) -> Known:
    """What Redis has of one User, but for its lists and its audit."""
    store, app_key = call.deps.store, call.app_key
    (profile,) = await store.users.profiles(app_key, [user])
    (facts,) = await store.users.facts(app_key, [user])
    # Reads of several moments: a write in between may show in the later ones alone.
    shown = KnownUser(
        **_profile_members(profile or Profile(user, 0, "", "")),
        deactivated=facts.deactivated,
        ban=await _restraint(call, store.bans, user, facts.banned_until_ms),
        mute=await _restraint(call, store.mutes, user, facts.muted_until_ms),
        whitelist_on=facts.whitelist_on,
        blacklist_size=facts.blacklist_size,
        whitelist_size=facts.whitelist_size,
        tokens_valid_from=facts.tokens_valid_from_ms or None,
        online=await call.deps.presence.is_online(app_key, user),
    )
    return Known(user, profile is not None or facts != NO_FACTS, shown)


# Not by `Meta`: the bound moves with the clock, and the document is made once.
def before_mistakes(before: int | None, now_ms: int) -> Iterable[InvalidInput]:
    """A moment before which Tokens can't be revoked."""
    if before is not None and not FIRST_UNTIL_MS <= before <= now_ms + MAX_REVOKED_AHEAD_MS:
        yield InvalidInput("before", f"must be Unix time in ms, at most a day ahead: {before} was sent")


async def _restraint(call: AppContext, family: Penalties, user: bytes, until_ms: int) -> Penalty | None:
    # Redis keeps an ended penalty until a sweep; everywhere it counts as absent from its very millisecond.
    if until_ms <= call.now_ms:
        return None
    ((why, by),) = await family.reasons(call.app_key, [user])
    return Penalty(until=until_json(until_ms), reason=why, actor=by)


def _profile_members(profile: Profile) -> dict[str, Any]:
    """Of `RegisteredUser`."""
    return {
        "user": json_id(profile.user),
        "registered_at": profile.registered_at_ms or None,
        "name": profile.name,
        "portrait": profile.portrait,
    }


# The dossier: everything that is kept about one User, as a person may ask for. Not in it, because they are other people's:
# the lists of others that name this User, and what was done to those. A list or an audit that is longer than one answer
# should hold ends in a cursor, with which `/v1/blacklist`, `/v1/whitelist` and `/v1/audit` go on.

PAGE = 1_000
# Of each list and of the audit: 10,000 entries are some 700 kB, and more than twice the default ceiling of a list.
MAX_PAGES = 10


class Dossier(KnownUser, kw_only=True):
    """Everything that is kept about one User. `next` of a part is null where that part is whole."""

    app: str
    made_at: int
    blacklist: MembersPage
    whitelist: MembersPage
    audit: AuditPage


async def dossier(call: AppRequest) -> Dossier:
    """`next` of a part is null where that part is whole."""
    return await dossier_of(call, call.path_user())


async def dossier_of(call: AppContext, user: bytes) -> Dossier:
    """The same, for any caller. Raises `UserUnknown`."""
    # The audit is read last: what is done meanwhile may be missing in the facts, and never in the audit.
    known, audit = await known_of(call, user), await _audit(call, user)
    # Of one who left, or whose last fact was lifted, the audit may be all there is.
    shown = known.shown if audit.entries else known.found
    return Dossier(
        **msgspec.structs.asdict(shown),
        app=call.app_key,
        made_at=call.now_ms,
        blacklist=await _list(call, ListKind.BLACKLIST, user),
        whitelist=await _list(call, ListKind.WHITELIST, user),
        audit=audit,
    )


async def _list(call: AppContext, kind: ListKind, owner: bytes) -> MembersPage:
    entries: list[Entry] = []
    before = None
    for _ in range(MAX_PAGES):
        page, before = await call.deps.store.lists.page(call.app_key, kind, owner, call.now_ms, before, PAGE)
        entries += page
        if before is None:
            break
    return members_page(entries, before)


async def _audit(call: AppContext, user: bytes) -> AuditPage:
    entries: list[AuditLine] = []
    cursor = None
    for _ in range(MAX_PAGES):
        page, cursor = await call.deps.store.audit.page(call.app_key, PAGE, user=user, cursor=cursor)
        entries += map(audit_line, page)
        if cursor is None:
            break
    return AuditPage(entries=entries, next=cursor)


ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    ("/v1/users", "POST"): Endpoint("Register a User", register, scopes=USERS, faults=("user-limit", "refused")),
    ("/v1/users", "GET"): Endpoint("Page through the registered Users", roll, scopes=USERS),
    ("/v1/users", "DELETE"): Endpoint("Delete Users", delete, scopes=USERS, faults=("refused",)),
    ("/v1/users/{user}", "GET"): Endpoint("Show a User", show, scopes=USERS, faults=("not-found",)),
    ("/v1/users/{user}", "PATCH"): Endpoint(
        "Change what a User is called", change, scopes=USERS, faults=("not-found", "refused")
    ),
    ("/v1/tokens", "POST"): Endpoint("Mint a Token", mint_token, scopes=USERS, faults=("user-limit", "refused")),
    ("/v1/tokens", "DELETE"): Endpoint("Revoke Tokens", revoke, scopes=USERS),
    ("/v1/users/{user}/dossier", "GET"): Endpoint(
        "Everything that is kept about a User", dossier, scopes=USERS, faults=("not-found",)
    ),
}
