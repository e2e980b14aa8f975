"""An open Session and its lease, as all parts of a process share them, and the outcomes that Redis returns for both.

    OpenSession    one record from the request for a Session until its close: the store writes it, a `Gateway` keeps it, and
                   recovery opens the Session again from it
    OpenOutcome    the words that the opening script replies
    CloseOutcome   the outcomes of closing a Session
    Leased         the outcome of taking or renewing a lease

Pure. Called by `gate.store.presence`, `gate.presence` and `gate.wire`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from gate.core.model import AppFacts
from gate.core.presence import Verified

# An App's key and a Gateway's name.
GatewayKey = tuple[str, bytes]


class OpenOutcome(StrEnum):
    """The outcome of opening a Session."""

    OK = "ok"
    NO_LEASE = "nolease"
    """Redis does not know the lease, or one with a lower epoch."""
    FENCED = "fenced"
    """The epoch is over: a higher one was taken, or the lease ended."""
    BARRED = "barred"
    """A Change closed the User's Sessions, and the Replica that verified the Token had not applied it: verify again."""
    FULL = "full"
    """The User has its maximum of Sessions."""


class CloseOutcome(StrEnum):
    """The outcome of closing a Session."""

    CLOSED = "closed"
    GONE = "gone"
    FOREIGN = "foreign"
    """Another Gateway holds it."""


class Leased(NamedTuple):
    """The valid epoch, whether this lease holds, and whether it is new."""

    epoch: int
    holds: bool
    is_new: bool


class OpenSession(msgspec.Struct, gc=False, eq=False):
    """A Session: its User, its Gateway, and the facts by which its Token was verified.

    `app` is the App's settings when the Session was opened.
    """

    app: AppFacts
    gateway: bytes
    epoch: int
    user: bytes
    id: str
    platform: str
    ip: str
    minted_at_ms: int
    log_epoch: str
    log_seq: int
    since_ms: int | None = None
    """When it was opened, for opening it again; None while it is new."""

    def verify(self, by: Verified) -> None:
        """Store the position of the facts by which it is opened."""
        self.log_epoch, self.log_seq = by.log_epoch, by.log_seq
