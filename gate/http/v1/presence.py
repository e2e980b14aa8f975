"""`/v1/presence`, `/v1/gateways` and a User's Sessions: who is online, on what, through which Gateway; and how to
disconnect it.

    POST /v1/presence                  up to 10,000 Users, also as one of them may see them (`as`)
    GET  /v1/presence/counts           how many are online, by platform and Gateway; no Session is looked at
    GET  /v1/presence/history          how many were, a sample every 15 s for an hour
    GET  /v1/presence/online           who is online, page by page
    GET  /v1/gateways                  leases, their age, and how many Sessions each holds
    GET  /v1/users/{user}/sessions     a User's live Sessions
    POST /v1/users/{user}/kick         closes them, wherever they are held

    {"user": id, "online": true, "platforms": [{"platform": "iOS", "since_ms": …, "sessions": 1}], "last_seen_ms": null,
     "last_active_ms": …}

Where the App has `hide_presence` on, a User whose lists refuse the viewer is shown as one that was never online. The viewer is
an end user with its Token (`/client/v1` calls `seen_presences` too), or the User that an App names as the one on whose behalf
it asks.

Answered from Redis: with Redis away each is a 503. `feed.py` reports what changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from gate.core.decide import lists_refuse
from gate.core.presence import SAMPLE_EVERY_MS, Session, UserPresence
from gate.core.scopes import PRESENCE, USERS
from gate.http.context import AppContext, AppRequest
from gate.http.endpoint import Endpoint
from gate.http.fields import Actor, IdJson, PageToken, PlatformName, Reason, json_id, page_cursor, page_token, up_to
from gate.http.forms import Query
from gate.http.requests import Body
from gate.presence.kick_command import kick_user
from gate.replica.reader import app_of
from gate.store.writer import Attribution

# Of one call: some 150 ms where all are online, a thousand at a time, so that no other caller waits for the whole.
MAX_PRESENCE_USERS = 10_000
# What is kept for sure; a little more is.
MAX_MINUTES = 60
# Users; each may have several Sessions, of which the answer has the platforms alone.
MAX_ONLINE_A_PAGE = 1_000
DEFAULT_PAGE = 100
# Some 10 ms of this process, where all of them are online: then others have their turn.
USERS_AT_ONCE = 1_000
# For Users that are hidden and for those that do not exist, so that no viewer can tell one from the other.
NEVER_SEEN = UserPresence((), 0, 0)


class Asking(Body, frozen=True, rename={"viewer": "as"}):
    """Whose Presence, and as which User may see it; without one, all of it."""

    IS_BATCH: ClassVar[bool] = True

    users: Annotated[list[bytes], up_to(MAX_PRESENCE_USERS)]
    viewer: bytes | None = None


class Kicking(Body, frozen=True):
    """Which Sessions: this one, those of a platform, or all; why and by whom."""

    session: (
        Annotated[
            str,
            Meta(
                description="Its id, as it was answered.",
                extra_json_schema={"format": "session-id", "minLength": 1},
            ),
        ]
        | None
    ) = None
    platform: PlatformName | None = None
    reason: Reason = ""
    actor: Actor = ""


class HistoryQuery(Query, frozen=True):
    """Of how long."""

    minutes: Annotated[int, Meta(ge=1, le=MAX_MINUTES, description="How far back.")] = MAX_MINUTES


class OnlineQuery(Query, frozen=True):
    """Which page."""

    size: Annotated[int, Meta(ge=1, le=MAX_ONLINE_A_PAGE)] = DEFAULT_PAGE
    token: PageToken | None = msgspec.field(default=None, name="pageToken")


class PlatformOnline(Struct, kw_only=True):
    """Since when (Unix ms) the User is online there, and with how many Sessions."""

    platform: str
    since_ms: int
    sessions: int


class UserPresenceShown(Struct, kw_only=True):
    """Moments are Unix ms. `last_seen_ms` is null while online; both are null for never."""

    user: IdJson
    online: bool
    platforms: list[PlatformOnline]
    last_seen_ms: int | None
    last_active_ms: int | None


class PresenceAnswer(Struct, kw_only=True):
    """In the order of the Users."""

    presence: list[UserPresenceShown]


class PresenceCounts(Struct, kw_only=True):
    """How many are online. While `sweeping` leases have ended, some of their Users still count in `users`."""

    users: int
    sessions: int
    by_platform: dict[str, int]
    by_gateway: dict[str, int]
    sweeping: int


class PresenceSample(Struct, kw_only=True):
    """How many were online then. The smallest shares of very many are summed under the Gateway "" (past 64 pairs of Gateway and
    platform), and under the platform "" (past 16 platforms of those)."""

    at_ms: int
    users: int
    sessions: int
    by_platform: dict[str, int]
    by_gateway: dict[str, int]


class PresenceHistory(Struct, kw_only=True):
    """The oldest first, one each `every_ms`, with gaps while no node could sample."""

    every_ms: int
    samples: list[PresenceSample]


class OnlineUser(Struct, kw_only=True):
    """A User with a Session."""

    user: IdJson
    platforms: list[PlatformOnline]


class OnlinePage(Struct, kw_only=True):
    """In no order; `next` is the token of the following page."""

    users: list[OnlineUser]
    next: str | None


class GatewayLease(Struct, kw_only=True):
    """`age_ms` is how long ago the lease was taken or renewed, or ended."""

    gateway: str
    epoch: int
    holds: bool
    age_ms: int
    sessions: int


class Gateways(Struct, kw_only=True):
    """By name."""

    gateways: list[GatewayLease]


class SessionShown(Struct, kw_only=True):
    """One connected device. `active_ms` is null if nothing was noted since it connected."""

    session: str
    platform: str
    gateway: str
    since_ms: int
    active_ms: int | None
    ip: str


class UserSessions(UserPresenceShown, kw_only=True):
    """The oldest Session first."""

    sessions: list[SessionShown]


class Kicked(Struct, kw_only=True):
    """How many live Sessions were closed."""

    closed: int


async def presences(call: AppRequest, body: Asking) -> PresenceAnswer:
    """→ presence, in the order of the Users; repeated ones once. With `as`, where the App has `hide_presence` on, Users whose
    lists refuse that User are shown as offline and never seen."""
    return await seen_presences(call, body.users, body.viewer)


async def seen_presences(call: AppContext, users: Sequence[bytes], viewer: bytes | None) -> PresenceAnswer:
    """What this viewer may see of each User, in order; None sees all. Raises `StoreUnavailable` and `Stale`."""
    # Whom lists hide is a question of the Replica, so its age counts here as for a check.
    hides = viewer is not None and call.facts.hide_presence
    if hides:
        call.deps.refuse_stale_ms(call.deps.replica.stale_ms(), call.facts)
    shown: list[UserPresenceShown] = []
    # Each portion awaits Redis, and then other requests have their turn.
    for at in range(0, len(users), USERS_AT_ONCE):
        some = users[at : at + USERS_AT_ONCE]
        # Read of hidden Users too: an answer that comes sooner would give them away.
        presences = await call.deps.presence.presences(call.app_key, some)
        hidden = _hidden_from(viewer, some, call) if hides and viewer is not None else frozenset()
        shown += [
            presence_json(user, NEVER_SEEN if user in hidden else presence)
            for user, presence in zip(some, presences, strict=True)
        ]
    return PresenceAnswer(presence=shown)


def presence_json(user: bytes, presence: UserPresence) -> UserPresenceShown:
    """One User's Presence. Moments are Unix ms, null for never; one that is online is seen now, so `last_seen_ms` is null."""
    return UserPresenceShown(
        user=json_id(user),
        online=presence.online,
        platforms=platforms_json(presence.sessions),
        last_seen_ms=None if presence.online else presence.last_seen_ms or None,
        last_active_ms=presence.last_active_ms or None,
    )


def platforms_json(sessions: Sequence[Session]) -> list[PlatformOnline]:
    """Each platform once, the one that came first first."""
    by_platform: dict[str, list[int]] = {}
    for one in sessions:
        # Sessions come the oldest first, and a dict keeps that order.
        by_platform.setdefault(one.platform, []).append(one.since_ms)
    return [
        PlatformOnline(platform=platform, since_ms=min(since), sessions=len(since))
        for platform, since in by_platform.items()
    ]


def _hidden_from(viewer: bytes, users: Sequence[bytes], call: AppContext) -> frozenset[bytes]:
    with call.deps.replica as snapshot:
        app = app_of(snapshot, call.app_key)
        return frozenset(user for user in users if lists_refuse(app, viewer, user, call.now_ms))


async def counts(call: AppRequest) -> PresenceCounts:
    """→ users, sessions, by_platform, by_gateway; `sweeping` leases have ended whose Users still count in `users`."""
    found = await call.deps.presence.counts(call.app_key)
    members: dict[str, Any] = found.document()
    return PresenceCounts(**members, sweeping=found.sweeping)


async def history(call: AppRequest, query: HistoryQuery) -> PresenceHistory:
    """`?minutes=` → every_ms, samples, the oldest first; gaps where no node could sample. Small shares are summed under the
    Gateway "", where there are very many."""
    found = await call.deps.presence.history(call.app_key, call.now_ms - query.minutes * 60_000)
    samples = [msgspec.convert({"at_ms": one.at_ms, **one.document()}, PresenceSample) for one in found]
    return PresenceHistory(every_ms=SAMPLE_EVERY_MS, samples=samples)


async def online(call: AppRequest, query: OnlineQuery) -> OnlinePage:
    """`?size=&pageToken=` → users, next. A page holds about `size`. A User that is online throughout all pages is found, and
    may be found twice while many come and go."""
    cursor = 0 if query.token is None else page_cursor(query.token)
    found, following = await call.deps.presence.page(call.app_key, cursor, query.size)
    users = [OnlineUser(user=json_id(user), platforms=platforms_json(sessions)) for user, sessions in found]
    # A scan ends with the cursor 0.
    return OnlinePage(users=users, next=page_token(following) if following else None)


async def gateways(call: AppRequest) -> Gateways:
    """→ gateways, by name. `age_ms` is how long ago the lease was taken or renewed, or ended if it does not hold."""
    presence = call.deps.presence
    (leases,) = await presence.leases([call.app_key])
    # Behind the leases: a Gateway that comes in between is missing, rather than shown without its Sessions.
    sessions = (await presence.counts(call.app_key)).by_gateway()
    return Gateways(
        gateways=[
            GatewayLease(
                gateway=one.gateway.decode(),
                epoch=one.epoch,
                holds=one.holds,
                # Redis dates it, and its clock may be ahead of this node's.
                age_ms=max(0, call.now_ms - one.renewed_at_ms),
                sessions=sessions.get(one.gateway, 0),
            )
            for one in leases
        ]
    )


async def sessions(call: AppRequest) -> UserSessions:
    """What POST /v1/presence answers for one User, and each of its Sessions, the oldest first."""
    user = call.path_user()
    (presence,) = await call.deps.presence.presences(call.app_key, [user])
    shown = [
        SessionShown(
            session=one.id,
            platform=one.platform,
            gateway=one.gateway.decode(),
            since_ms=one.since_ms,
            active_ms=one.active_ms or None,
            ip=one.ip,
        )
        for one in presence.sessions
    ]
    return UserSessions(**msgspec.structs.asdict(presence_json(user, presence)), sessions=shown)


async def kick(call: AppRequest, body: Kicking) -> Kicked:
    """→ closed: how many Sessions. The feed names them to their Gateways, with the reason `kicked`. The User may connect again:
    a Ban is what keeps it out. It is in the audit first: a kick that can't be there is refused."""
    # No write to the facts, so `call.writes` can't carry its reason: the kick has an audit entry of its own.
    deps, because = call.deps, Attribution(body.actor, body.reason)
    closed = await kick_user(
        deps.store.audit,
        deps.presence,
        call.app_key,
        call.path_user(),
        because,
        session=body.session,
        platform=body.platform,
    )
    return Kicked(closed=closed)


ENDPOINTS: dict[tuple[str, str], Endpoint[AppRequest]] = {
    ("/v1/presence", "POST"): Endpoint("Who of these Users is online", presences, scopes=PRESENCE, faults=("stale",)),
    ("/v1/presence/counts", "GET"): Endpoint("How many are online", counts, scopes=PRESENCE),
    ("/v1/presence/history", "GET"): Endpoint("How many were online in the last hour", history, scopes=PRESENCE),
    ("/v1/presence/online", "GET"): Endpoint("Page through the Users that are online", online, scopes=PRESENCE),
    ("/v1/gateways", "GET"): Endpoint("Gateways and their leases", gateways, scopes=PRESENCE),
    ("/v1/users/{user}/sessions", "GET"): Endpoint("A User's Sessions", sessions, scopes=PRESENCE),
    ("/v1/users/{user}/kick", "POST"): Endpoint("Close a User's Sessions", kick, scopes=USERS),
}
