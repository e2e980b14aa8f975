"""One Session whose client is connected to this process itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gate.core.model import AppFacts
from gate.core.presence import CloseReason, Verified
from gate.core.sessions import OpenSession

Disconnect = Callable[[CloseReason], None]
"""Disconnects a client, for a reason. Returns at once and is called at most once."""


class Admissions(Protocol):
    """Who may have a Session, by this node's facts."""

    def app_facts(self, key: str, /) -> AppFacts | None:
        """The App's settings, None where there is no such App."""
        ...

    def authorize_again(self, key: str, user: bytes, minted_at_ms: int, now_ms: int, /) -> Verified:
        """Whether a Token that was valid, minted then, lets its User connect now; `TokenRefused`."""
        ...

    def authorize_stay(self, key: str, user: bytes, minted_at_ms: int, now_ms: int, /) -> Verified:
        """Whether a User that connected with a Token minted then may stay connected; `TokenRefused`."""
        ...

    def applied_of(self, key: str, user: bytes, /) -> tuple[str, int]:
        """Epoch and seq up to which the User's facts are here."""
        ...


class LocalSession(OpenSession, gc=True, eq=False, kw_only=True):
    """An `OpenSession`, and what its `AppLease` needs to know of the client.

    It is in the lease's table from before the Session is asked for: a kick may overtake the answer.
    """

    disconnect: Disconnect
    expires_at_ms: int
    """Of the Token; 0 for never."""
    generation: bytes
    """Of the key that signed the Token."""
    is_open: bool = False
    """Whether Redis answered that it is."""
    is_active: bool = False
    """Since activity was last reported to Redis."""
    was_ended: bool = False

    def end(self, why: CloseReason) -> None:
        """Disconnect the client; the first reason counts."""
        if not self.was_ended:
            self.was_ended = True
            self.disconnect(why)
