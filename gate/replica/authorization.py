"""Authorization of Sessions from this node's facts: the Token, the User's state, and the Change up to which both were read.

A connect is authorized inside its caller's bracket, by the RESP port and for WebSockets. What comes later, as a Session that is
opened again, is asked through the `Admission` of the session service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from gate.clock import monotonic_ms, wall_ms
from gate.core import token
from gate.core.model import FOREVER_MS, AppFacts
from gate.core.presence import Verified
from gate.core.revision import partition_of
from gate.core.sessions import OpenSession
from gate.errors import TokenRefused, Unavailable
from gate.replica.app_reading import AppReading
from gate.replica.reading import Reading
from gate.replica.status_page import State

LOOK_EVERY_S = 0.005
# Maximum wait of a connect for this Replica to apply the Change.
VERIFY_AGAIN_FOR_MS = 1_000


def authorize_connect(reading: Reading, shown: str, now_ms: int, only_app: str | None = None) -> Verified:
    """Return the User authenticated by this Token. Raises `TokenRefused`, also if the Token's App is not `only_app`."""
    claims = token.verify(shown, reading.app, now_ms, only_app)
    found = reading.app(claims.app)
    assert found is not None, "its Token was just verified"
    epoch, seq = applied_of(reading, claims.app, claims.user)
    return Verified(found.app, claims.user, claims.minted_at_ms, epoch, seq, claims.expires_at_ms, claims.generation)


def applied_of(reading: Reading, app_key: str, user: bytes) -> tuple[str, int]:
    """Return epoch and seq up to which this User's facts are applied here; ("0", 0) before there are any.

    The same after Redis went back: its current entries under these numbers are not those applied here.
    """
    record = reading.position(partition_of(app_key, user, reading.partitions))
    page = reading.status_page
    # One word of shared memory, read for each connect.
    is_reloading = page is not None and page.state[0] == State.RELOADING
    return ("0", 0) if record is None or is_reloading else (record.epoch, record.seq)


class Admission:
    """What the session service asks of the facts outside of any bracket: whether a Session may be opened, or stay open.

    Each question has a bracket of its own. A use before the Replica is ready raises `ReplicaError`.
    """

    def __init__(self, facts: Callable[[], Reading]) -> None:
        """`facts` gives the process's Reading, as a worker may exchange its own for a moment."""
        self._facts = facts

    def app_facts(self, key: str) -> AppFacts | None:
        """Return the App's settings; None for an unknown App."""
        with self._facts() as reading:
            found = reading.app(key)
            return None if found is None else found.app

    async def verify_again(self, by: Verified, until_ms: int) -> Verified:
        """Return the same User as of facts that have more of its Partition than those of `by`, as soon as there are any.

        A Change closed the User's Sessions, and this Replica had not applied it when the Token was verified. So it is waited
        for until more is applied, possibly that Change. Raises `TokenRefused`, and `Unavailable` at `until_ms` (monotonic).
        """
        while monotonic_ms() < until_ms:
            with self._facts() as reading:
                epoch, seq = applied_of(reading, by.app.key, by.user)
                if (epoch, seq) != (by.log_epoch, by.log_seq):
                    found = _same_app(reading, by.app)
                    token.check_standing(found.app, by.generation, by.expires_at_ms, wall_ms())
                    token.check_user(by.minted_at_ms, found.user(by.user), wall_ms())
                    return msgspec.structs.replace(by, app=found.app, log_epoch=epoch, log_seq=seq)
            await asyncio.sleep(LOOK_EVERY_S)
        raise Unavailable("this Replica has not yet applied the Change that closed the User's Sessions; connect again")

    def authorize_stay(self, session: OpenSession) -> Verified:
        """Return the facts by which a Session may stay open, or be opened again. Raises `TokenRefused`.

        As for a kick, a revocation of the Token since then counts only if the App is configured so, and its expiry never does.
        """
        user, minted_at_ms = session.user, session.minted_at_ms
        with self._facts() as reading:
            found = _same_app(reading, session.app)
            # A Token minted in the far future is never revoked.
            counted_ms = minted_at_ms if found.app.close_sessions_on_expire else FOREVER_MS
            token.check_user(counted_ms, found.user(user), wall_ms())
            return Verified(found.app, user, minted_at_ms, *applied_of(reading, found.app.key, user))


def _same_app(reading: Reading, app: AppFacts) -> AppReading:
    """The App as it is now; refused if it was removed, also if another one has its key by now."""
    found = reading.app(app.key)
    if found is None or not token.is_same_app(found.app, app):
        raise TokenRefused("app-unknown", "the App was removed")
    return found
