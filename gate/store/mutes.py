"""Mutes: an App lets a User connect and read, but not send, until a moment. See `restraints` for how."""

from __future__ import annotations

from gate.store import keys
from gate.store.restraints import Restraints, RestraintWords


class Mutes(Restraints):
    """Imposes, lifts and lists Mutes."""

    words = RestraintWords("mute-imposed", "mute-lifted", keys.MUTED_UNTIL, keys.MUTED_WHY, keys.MUTED_BY)

    def key(self, partition: int, app_key: str) -> bytes:
        """The muted Users, by end."""
        return keys.mutes(partition, app_key)
