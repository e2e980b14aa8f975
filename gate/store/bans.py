"""Bans: an App refuses a User until a moment. See `penalties` for the implementation."""

from __future__ import annotations

from gate.store import keys
from gate.store.penalties import Penalties, PenaltyNames


class Bans(Penalties):
    """Imposes, lifts and lists Bans."""

    words = PenaltyNames("ban-imposed", "ban-lifted", keys.BANNED_UNTIL, keys.BANNED_WHY, keys.BANNED_BY)

    def key(self, partition: int, app_key: str) -> bytes:
        """The banned Users, by end."""
        return keys.bans(partition, app_key)
