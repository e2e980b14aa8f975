"""What good answers about Presence hold, as `shapes.py` does for the others. All moments are Unix ms."""

from __future__ import annotations

from msgspec import Struct

from gate.http.fields import IdJson


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
    """The oldest first, one each `every_ms`, but for when nobody could know."""

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
    """One connected device. `active_ms` is null where nothing was noted since it connected."""

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


class PlatformChange(Struct, kw_only=True):
    """The newest state of a platform that came or went."""

    platform: str
    online: bool
    at_ms: int


class PresenceChange(Struct, kw_only=True):
    """A User's newest state, and that of the platforms that came or went."""

    user: IdJson
    online: bool
    at_ms: int
    platforms: list[PlatformChange]


class PresenceChanges(Struct, kw_only=True):
    """What is new. Ask again with `cursor`: at once where there is `more`."""

    changes: list[PresenceChange]
    cursor: str
    more: bool
