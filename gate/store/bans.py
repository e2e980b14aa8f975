"""Bans: an App refuses a User until a moment. See `restraints` for how."""

from __future__ import annotations

from gate.store import keys
from gate.store.restraints import Restraints, RestraintWords


class Bans(Restraints):
    """Imposes, lifts and lists Bans."""

    words = RestraintWords("ban-imposed", "ban-lifted", keys.BANNED_UNTIL, keys.BANNED_WHY, keys.BANNED_BY)

    def key(self, partition: int, app_key: str) -> bytes:
        """The banned Users, by end."""
        return keys.bans(partition, app_key)
