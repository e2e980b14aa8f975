"""Who may have a Session, by this node's facts: the Token, the User's state, and up to which Change both were looked at.

Each is asked inside a bracket of a `Reading`. Called by the RESP port's presence commands and, by way of `Admission`, for
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
from gate.replica.reader import NodeReplica
from gate.replica.reading import Reading


def admitted(reading: Reading, shown: str, now_ms: int, only_app: str | None = None) -> Verified:
    """Whom this Token lets connect; `TokenRefused`. One of another App than `only_app` is of none that is known."""
    try:
        claims = token.verify(shown, lambda app: reading.app(app) if only_app in (None, app) else None, now_ms)
    except TokenRefused as refused:
        if refused.fault != "app-unknown" or only_app is None:
            raise
        raise TokenRefused(
            "app-unknown", f"the Token is not of the App {only_app}, which this connection is for"
        ) from None
    found = reading.app(claims.app)
    assert found is not None, "its Token was just verified"
    epoch, seq = applied_of(reading, claims.app, claims.user)
    return Verified(found.app, claims.user, claims.minted_at_ms, epoch, seq, claims.expires_at_ms, claims.generation)


def admitted_anew(reading: Reading, app_key: str, user: bytes, minted_at_ms: int, now_ms: int) -> Verified:
    """Whether a Token that was valid, minted then, lets its User connect now, its expiry aside; `TokenRefused`."""
    found = _found(reading, app_key)
    token.check_user(minted_at_ms, found.user(user), now_ms)
    return _verified(reading, found, user, minted_at_ms)


def may_stay(reading: Reading, app_key: str, user: bytes, minted_at_ms: int, now_ms: int) -> Verified:
    """Whether whoever connected with a Token minted then may go on being connected; `TokenRefused`.

    As for a kick: that the Token was revoked meanwhile counts only where the App says so.
    """
    found = _found(reading, app_key)
    counted_ms = minted_at_ms if found.app.close_sessions_on_expire else FOREVER_MS
    token.check_user(counted_ms, found.user(user), now_ms)
    return _verified(reading, found, user, minted_at_ms)


def applied_of(reading: Reading, app_key: str, user: bytes) -> tuple[str, int]:
    """Epoch and seq up to which this User's facts are here; ("0", 0) before there are any.

    So too where Redis went back: what it has now under the same numbers is not what is here, so they say nothing.
    """
    record = reading.position(partition_of(app_key, user, reading.partitions))
    return ("0", 0) if record is None or reading.is_reloading else (record.epoch, record.seq)


class Admission:
    """The same questions for a caller that is inside no bracket: each is asked in a snapshot of its own."""

    def __init__(self, replica: Ready[NodeReplica]) -> None:
        """A use of a Replica that is not there yet raises `ReplicaError`."""
        self._replica = replica

    def app_facts(self, key: str) -> AppFacts | None:
        """The App's settings, None where there is no such App."""
        with self._replica.get().snapshot() as snapshot:
            found = snapshot.app(key)
            return None if found is None else found.app

    def admitted_anew(self, key: str, user: bytes, minted_at_ms: int, now_ms: int) -> Verified:
        """See the function."""
        with self._replica.get().snapshot() as snapshot:
            return admitted_anew(snapshot, key, user, minted_at_ms, now_ms)

    def may_stay(self, key: str, user: bytes, minted_at_ms: int, now_ms: int) -> Verified:
        """See the function."""
        with self._replica.get().snapshot() as snapshot:
            return may_stay(snapshot, key, user, minted_at_ms, now_ms)

    def applied_of(self, key: str, user: bytes) -> tuple[str, int]:
        """See the function."""
        with self._replica.get().snapshot() as snapshot:
            return applied_of(snapshot, key, user)


def _found(reading: Reading, app_key: str) -> AppReading:
    found = reading.app(app_key)
    if found is None:
        raise TokenRefused("app-unknown", "the App was removed")
    return found


def _verified(reading: Reading, found: AppReading, user: bytes, minted_at_ms: int) -> Verified:
    epoch, seq = applied_of(reading, found.app.key, user)
    return Verified(found.app, user, minted_at_ms, epoch, seq)
