"""How Presence looks in answers, and what of it a viewer may see.

    {"user": id, "online": true, "platforms": [{"platform": "iOS", "since_ms": …, "sessions": 1}], "last_seen_ms": null,
     "last_active_ms": …}

Where the App has `hide_presence` on, a User whose lists refuse the viewer is shown as one that was never online. The viewer is
an end user with its Token, or the User that an App names as the one on whose behalf it asks. Called by `/v1` and `/client/v1`.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from gate.core.decide import lists_refuse
from gate.core.presence import Session, UserPresence
from gate.http.context import AppContext
from gate.http.fields import IdJson, json_id
from gate.replica.reader import app_of

USERS_AT_ONCE = 1_000
"""Some 10 ms of this process, where all of them are online: then others have their turn."""
NEVER_SEEN = UserPresence((), 0, 0)


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


async def seen_presences(call: AppContext, users: Sequence[bytes], viewer: bytes | None) -> PresenceAnswer:
    """What this viewer may see of each User, in order; None sees all. Raises `StoreUnavailable` and `Stale`."""
    hides = viewer is not None and call.facts.hide_presence
    if hides:
        call.deps.refuse_stale_ms(call.deps.replica.stale_ms(), call.facts)
    shown: list[UserPresenceShown] = []
    for at in range(0, len(users), USERS_AT_ONCE):
        some = users[at : at + USERS_AT_ONCE]
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
        by_platform.setdefault(one.platform, []).append(one.since_ms)
    return [
        PlatformOnline(platform=platform, since_ms=min(since), sessions=len(since))
        for platform, since in by_platform.items()
    ]


def _hidden_from(viewer: bytes, users: Sequence[bytes], call: AppContext) -> frozenset[bytes]:
    with call.deps.replica as snapshot:
        app = app_of(snapshot, call.app_key)
        return frozenset(user for user in users if lists_refuse(app, viewer, user, call.now_ms))
