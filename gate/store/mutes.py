"""Mutes: a User may connect and read, but not send, until a moment. See `penalties` for the implementation."""

from __future__ import annotations

from gate.store import keys
from gate.store.penalties import Penalties, PenaltyNames


class Mutes(Penalties):
    """Imposes, lifts and lists Mutes."""

    words = PenaltyNames("mute-imposed", "mute-lifted", keys.MUTED_UNTIL, keys.MUTED_WHY, keys.MUTED_BY)

    def key(self, partition: int, app_key: str) -> bytes:
        """The muted Users, by end."""
        return keys.mutes(partition, app_key)
