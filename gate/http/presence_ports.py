"""What Presence is to HTTP: who is online, and what changes. See `ports` for the rest."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from gate.core.presence import Counts, Cursor, Event, Lease, Sample, Session, UserPresence


class Presence(Protocol):
    """Who has a Session now. Every method may raise `StoreUnavailable`."""

    async def is_online(self, app_key: str, user: bytes) -> bool:
        """Whether the User has at least one."""
        ...

    async def presences(self, app_key: str, users: Sequence[bytes]) -> Sequence[UserPresence]:
        """Each User's live Sessions and last moments, in order."""
        ...

    async def counts(self, app_key: str) -> Counts:
        """How many are online, by Gateway and platform."""
        ...

    async def history(self, app_key: str, since_ms: int) -> Sequence[Sample]:
        """How many were online from a moment on, the oldest first, as far back as that is kept."""
        ...

    async def page(
        self, app_key: str, cursor: int, count: int
    ) -> tuple[Sequence[tuple[bytes, tuple[Session, ...]]], int]:
        """Some `count` online Users, and the next page's cursor, 0 after the last."""
        ...

    async def leases(self, app_keys: Sequence[str]) -> Sequence[Sequence[Lease]]:
        """All Gateways of each App, by name."""
        ...

    async def kick(
        self, app_key: str, users: Sequence[bytes], why: str, *, stored_id: str = "", platform: str = ""
    ) -> int:
        """Close Sessions of these Users, all or those named, wherever they are held; how many were live."""
        ...


class Feeds(Protocol):
    """What changed, App by App, in order."""

    async def head(self, app_key: str) -> Cursor:
        """The newest place. Raises `StoreUnavailable`."""
        ...

    async def read(self, app_key: str, after: Cursor, most: int) -> Sequence[Event]:
        """Up to `most` entries behind a cursor. Raises `FeedReset` and `StoreUnavailable`."""
        ...

    def follow(self, app_key: str, after: Cursor) -> AsyncGenerator[Sequence[Event], None]:
        """All that lies behind a cursor, without end; waits while Redis is away. Raises `FeedReset`."""
        ...
