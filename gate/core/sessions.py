"""One open Session and the lease that it is held under, as every part of a process knows them; and what Redis answers of both.

    OpenSession    one record from the moment that a Session is asked for until it is closed: the store writes it, a `Gateway`
                   remembers it, and recovery opens it again from it
    OpenOutcome    the words that the opening script replies
    CloseOutcome   what closing a Session gave
    Leased         what taking or renewing a lease gave

Pure. Called by `gate.store.presence`, `gate.presence` and `gate.wire`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from gate.core.model import AppFacts
from gate.core.presence import Verified

GatewayKey = tuple[str, bytes]
"""An App's key and a Gateway's name."""
Reverify = Callable[[str, bytes, int], Verified | None]
"""(App key, User, when its Token was minted): whether the User may still be connected, and by which Change; None if not."""


class OpenOutcome(StrEnum):
    """What opening a Session gave."""

    OK = "ok"
    NO_LEASE = "nolease"
    """Redis does not know the lease, or one with a lower epoch."""
    FENCED = "fenced"
    """The epoch is over: a higher one was taken, or the lease ended."""
    BARRED = "barred"
    """A Change closed the User's Sessions, and the Replica that verified the Token had not applied it: verify again."""
    FULL = "full"
    """The User has as many Sessions as it may have."""


class CloseOutcome(StrEnum):
    """What closing a Session gave."""

    CLOSED = "closed"
    GONE = "gone"
    FOREIGN = "foreign"
    """Another Gateway holds it."""


class Leased(NamedTuple):
    """The epoch that counts, whether this lease holds, and whether it did not exist before."""

    epoch: int
    holds: bool
    is_new: bool


class OpenSession(msgspec.Struct, gc=False, eq=False):
    """A Session: of whom, held by which Gateway, and the facts under which its Token was found valid.

    `app` is what its App was when it was opened.
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
    """When it was opened, to open it again; None while it is new."""

    def verify(self, by: Verified) -> None:
        """It is opened by these facts."""
        self.log_epoch, self.log_seq = by.log_epoch, by.log_seq
