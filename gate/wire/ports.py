"""What presence commands need of `gate.presence`, which they may not import: the session service, its Gateways and its feeds.

The values that these give are those of `gate.core`. A check needs none of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol, TypeVar

from gate.core.presence import CloseReason, Cursor, Event, UserPresence, Verified
from gate.core.sessions import CloseOutcome, GatewayKey, OpenOutcome, OpenSession

T_co = TypeVar("T_co", covariant=True)


class PendingResult(Protocol[T_co]):
    """A result to come: once `arrival` is done, `result` gives it."""

    @property
    def arrival(self) -> asyncio.Future[Any]: ...

    def result(self) -> T_co:
        """Raises `StoreUnavailable`."""
        ...


class Feed(Protocol):
    """What changes in one App."""

    async def head(self) -> Cursor: ...
    async def read(self, after: Cursor, most: int) -> list[Event]:
        """Raises `FeedReset`."""
        ...


class Gateway(Protocol):
    """One lease of one Gateway, `gate.presence.gateway`. Calls raise `Unavailable` where too much is under way."""

    app_key: str
    name: bytes
    epoch: int
    holds: bool

    def new_session(self, by: Verified, platform: str, ip: str) -> OpenSession: ...
    def open(self, session: OpenSession) -> PendingResult[OpenOutcome]: ...
    async def open_again(self, session: OpenSession, by: Verified) -> OpenOutcome:
        """Open one that was `BARRED`, once the facts here are newer. Raises `TokenRefused`."""
        ...

    def close(self, session_id: str, why: CloseReason) -> PendingResult[CloseOutcome]:
        """Raises `InvalidInput` for what is no Session's id."""
        ...

    def abandon(self, session_id: str) -> None:
        """Close a Session of which its Gateway never learned."""
        ...

    def forget(self, session_id: str) -> None:
        """It is not brought back."""
        ...

    def look_over(self) -> None:
        """Begin to forget what others closed of its Sessions."""
        ...


class SessionService(Protocol):
    """Leases and reads, `gate.presence.session_service`. Calls raise `Unavailable` where too much is under way."""

    @property
    def lease_ttl_ms(self) -> int: ...
    async def lease(self, app_key: str, name: bytes, epoch: int | None) -> Gateway:
        """Take or renew a lease. Raises `StoreUnavailable`."""
        ...

    def let_go(self, gateway: Any) -> None:
        """No connection of this process renews this `Gateway` any more."""
        ...

    def forget(self, key: GatewayKey, session_id: str) -> None:
        """A Session was kicked: it is not brought back."""
        ...

    def touch(self, app_key: str, sessions: Sequence[str]) -> PendingResult[int]: ...
    def online(self, app_key: str, users: Sequence[bytes]) -> PendingResult[list[bool]]: ...
    def presences(self, app_key: str, users: Sequence[bytes]) -> PendingResult[list[UserPresence]]: ...
    def feed(self, app_key: str) -> Feed: ...
    def follow(self, app_key: str, after: Cursor) -> AsyncGenerator[Sequence[Event], None]:
        """What happens behind a cursor, some at a time, without end; close it. Raises `FeedReset`."""
        ...
