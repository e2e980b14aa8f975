"""Presence where no Gateway can hold a Session yet: nobody has one, so nobody is online. True, not a stand-in's guess."""

from __future__ import annotations


class NobodyOnline:
    """A `Presence` without Sessions."""

    async def is_online(self, app_key: str, user: bytes) -> bool:
        """No User has a Session."""
        return False
