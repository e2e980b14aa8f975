"""Authorization of Sessions from this node's facts: the Token, the User's state, and the Change up to which both were read.

Every function is called inside a bracket of a `Reading`: by the RESP port's presence commands and, through `Admission`, for
WebSockets.
"""

from __future__ import annotations

from gate.core import token
from gate.core.model import FOREVER_MS, AppFacts
from gate.core.partition import partition_of
from gate.core.presence import Verified
from gate.errors import TokenRefused
from gate.readiness import Ready
from gate.replica.app_reading import AppReading
from gate.replica.reading import Reading


def authorize_connect(reading: Reading, shown: str, now_ms: int, only_app: str | None = None) -> Verified:
    """Return the User authenticated by this Token. Raises `TokenRefused`, also if the Token's App is not `only_app`."""
    try:
        # The lookup hides other Apps, so that their Tokens fail like those of unknown Apps.
        claims = token.verify(shown, lambda app: reading.app(app) if only_app in (None, app) else None, now_ms)
    except TokenRefused as refused:
        # Only the hidden Apps get other words.
        if refused.fault != "app-unknown" or only_app is None:
            raise
        raise TokenRefused(
            "app-unknown", f"the Token does not belong to the App {only_app}, which this connection uses"
        ) from None
    found = reading.app(claims.app)
    assert found is not None, "its Token was just verified"
    epoch, seq = applied_of(reading, claims.app, claims.user)
    return Verified(found.app, claims.user, claims.minted_at_ms, epoch, seq, claims.expires_at_ms, claims.generation)


def authorize_again(reading: Reading, app_key: str, user: bytes, minted_at_ms: int, now_ms: int) -> Verified:
    """Return whether the User of a Token verified earlier may connect now, regardless of its expiry. Raises `TokenRefused`."""
    found = _found(reading, app_key)
    token.check_user(minted_at_ms, found.user(user), now_ms)
    return _verified(reading, found, user, minted_at_ms)


def authorize_stay(reading: Reading, app_key: str, user: bytes, minted_at_ms: int, now_ms: int) -> Verified:
    """Return whether a User that connected with a Token minted then may stay connected. Raises `TokenRefused`.

    As for a kick, a revocation of the Token since then counts only if the App is configured so.
    """
    found = _found(reading, app_key)
    # A Token minted in the far future is never revoked.
    counted_ms = minted_at_ms if found.app.close_sessions_on_expire else FOREVER_MS
    token.check_user(counted_ms, found.user(user), now_ms)
    return _verified(reading, found, user, minted_at_ms)


def applied_of(reading: Reading, app_key: str, user: bytes) -> tuple[str, int]:
    """Return epoch and seq up to which this User's facts are applied here; ("0", 0) before there are any.

    The same after Redis went back: its current entries under these numbers are not those applied here.
    """
    record = reading.position(partition_of(app_key, user, reading.partitions))
    return ("0", 0) if record is None or reading.is_reloading else (record.epoch, record.seq)


class Admission:
    """The same functions for callers outside of a bracket: each call has a snapshot of its own."""

    def __init__(self, replica: Ready[Reading]) -> None:
        """A use before the Replica is ready raises `ReplicaError`."""
        self._replica = replica

    def app_facts(self, key: str) -> AppFacts | None:
        """Return the App's settings; None for an unknown App."""
        with self._replica.get() as snapshot:
            found = snapshot.app(key)
            return None if found is None else found.app

    def authorize_again(self, key: str, user: bytes, minted_at_ms: int, now_ms: int) -> Verified:
        """See the function."""
        with self._replica.get() as snapshot:
            return authorize_again(snapshot, key, user, minted_at_ms, now_ms)

    def authorize_stay(self, key: str, user: bytes, minted_at_ms: int, now_ms: int) -> Verified:
        """See the function."""
        with self._replica.get() as snapshot:
            return authorize_stay(snapshot, key, user, minted_at_ms, now_ms)

    def applied_of(self, key: str, user: bytes) -> tuple[str, int]:
        """See the function."""
        with self._replica.get() as snapshot:
            return applied_of(snapshot, key, user)


def _found(reading: Reading, app_key: str) -> AppReading:
    found = reading.app(app_key)
    if found is None:
        raise TokenRefused("app-unknown", "the App was removed")
    return found


def _verified(reading: Reading, found: AppReading, user: bytes, minted_at_ms: int) -> Verified:
    epoch, seq = applied_of(reading, found.app.key, user)
    return Verified(found.app, user, minted_at_ms, epoch, seq)
