"""What presence commands need of the world: a service that opens Sessions and reads Presence.

`gate.presence.session_service` is one.

A check needs none of this; `wire` imports no store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar

from gate.core.presence import Cursor, Event, UserPresence, Verified

T_co = TypeVar("T_co", covariant=True)

Opened = Literal["ok", "nolease", "fenced", "barred", "full"]
Closed = Literal["closed", "gone", "foreign"]
Reverify = Callable[[str, bytes, int], "Verified | None"]
"""(App key, User, when its Token was minted): whether it may still be connected, and by which Change; None if not."""


class PendingResult(Protocol[T_co]):
    """A reply to come: once `arrival` is done, `result` gives it."""

    @property
    def arrival(self) -> asyncio.Future[Any]: ...

    def result(self) -> T_co:
        """What was asked. Raises `StoreUnavailable`."""
        ...

    async def wait(self) -> T_co:
        """`result` as soon as there is one."""
        ...


class Leased(Protocol):
    """What taking or renewing a lease gave."""

    @property
    def epoch(self) -> int: ...
    @property
    def holds(self) -> bool: ...


class PendingSession(Protocol):
    """A Session being opened."""

    @property
    def session(self) -> str: ...
    @property
    def pending(self) -> PendingResult[Opened]: ...


class Feed(Protocol):
    """What changes in one App."""

    async def head(self) -> Cursor: ...
    async def read(self, after: Cursor, most: int) -> list[Event]:
        """Raises `FeedReset`."""
        ...


class SessionService(Protocol):
    """Leases and Sessions. Calls raise `Unavailable` where too much is under way."""

    @property
    def lease_ttl_ms(self) -> int: ...
    async def lease(self, app_key: str, gateway: bytes, epoch: int | None, may_connect: Reverify) -> Leased:
        """Take or renew a lease. Raises `StoreUnavailable`."""
        ...

    def look_over(self, app_key: str, gateway: bytes, epoch: int) -> None:
        """Begin to forget what others closed of this Gateway's Sessions."""
        ...

    def let_go(self, app_key: str, gateway: bytes, epoch: int) -> None: ...
    def open(self, by: Verified, gateway: bytes, epoch: int, platform: str, ip: str) -> PendingSession: ...
    def close(self, app_key: str, gateway: bytes, epoch: int, session: str, why: str) -> PendingResult[Closed]:
        """Raises `InvalidInput` for what is no Session's id."""
        ...

    def abandon(self, app_key: str, gateway: bytes, epoch: int, session: str) -> None:
        """Close a Session of which its Gateway never learned."""
        ...

    def forget(self, app_key: str, gateway: bytes, session: str) -> None:
        """A Session was kicked: it is not brought back."""
        ...

    def touch(self, app_key: str, sessions: Sequence[str]) -> PendingResult[int]: ...
    def online(self, app_key: str, users: Sequence[bytes]) -> PendingResult[list[bool]]: ...
    def presences(self, app_key: str, users: Sequence[bytes]) -> PendingResult[list[UserPresence]]: ...
    def feed(self, app_key: str) -> Feed: ...
    def follow(self, app_key: str, after: Cursor) -> AsyncGenerator[Sequence[Event], None]:
        """What happens behind a cursor, some at a time, without end; close it. Raises `FeedReset`."""
        ...
