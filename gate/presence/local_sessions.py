"""One Session whose client is connected to this process itself."""

from __future__ import annotations

from collections.abc import Callable

from gate.core.presence import CloseReason
from gate.core.sessions import OpenSession

Disconnect = Callable[[CloseReason], None]
"""Disconnects a client, for a reason. Returns at once and is called at most once."""


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
