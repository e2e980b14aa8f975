"""One client whose connection this process holds itself, and what a `AppLease` needs to know of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gate.core.model import AppFacts
from gate.core.presence import CloseReason, Verified

End = Callable[[CloseReason], None]
"""Puts a client out, for a reason. Returns at once and is called at most once."""


class Admissions(Protocol):
    """Who may have a Session, by this node's facts."""

    def app_facts(self, key: str, /) -> AppFacts | None:
        """The App's settings, None where there is no such App."""
        ...

    def admitted_anew(self, key: str, user: bytes, minted_at_ms: int, now_ms: int, /) -> Verified:
        """Whether a Token that was valid, minted then, lets its User connect now; `TokenRefused`."""
        ...

    def may_stay(self, key: str, user: bytes, minted_at_ms: int, now_ms: int, /) -> Verified:
        """Whether whoever connected with a Token minted then may go on being connected; `TokenRefused`."""
        ...

    def applied_of(self, key: str, user: bytes, /) -> tuple[str, int]:
        """Epoch and seq up to which the User's facts are here."""
        ...


class LocalSession:
    """A client's place. It is in its AppLease's table from before its Session is asked for: a kick may overtake the answer."""

    __slots__ = (
        "_end",
        "app",
        "expires_at_ms",
        "generation",
        "ip",
        "is_active",
        "is_open",
        "minted_at_ms",
        "platform",
        "session",
        "since_ms",
        "user",
        "was_ended",
    )

    def __init__(self, by: Verified, platform: str, ip: str, since_ms: int, end: End) -> None:
        self.app = by.app
        """What its App was when the client came."""
        self.user = by.user
        self.minted_at_ms = by.minted_at_ms
        self.expires_at_ms = by.expires_at_ms
        self.generation = by.generation
        self.platform = platform
        self.ip = ip
        self.since_ms = since_ms
        self.session = ""
        self.is_open = False
        """Whether Redis said so."""
        self.is_active = False
        """Since this was last told to Redis."""
        self.was_ended = False
        self._end = end

    def end(self, why: CloseReason) -> None:
        """Put the client out; the first reason counts."""
        if not self.was_ended:
            self.was_ended = True
            self._end(why)
