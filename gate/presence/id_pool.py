"""Ids of new Sessions. Their random bytes are drawn from the kernel for many at once: a call for each cost a storm a tenth of
its time.

Used by `session_service`, one a process, and never across a fork.
"""

from __future__ import annotations

import os

from gate.core.base64url import encoded
from gate.core.presence import SESSION_RANDOM_BYTES

IDS_A_DRAW = 512


class IdPool:
    """Gives the kernel's random bytes, each of them once."""

    __slots__ = ("_at", "_drawn")

    def __init__(self) -> None:
        self._drawn = b""
        self._at = 0

    def next(self, user: bytes) -> str:
        """An id that was not given before, for a Session of this User."""
        at = self._at
        if at == len(self._drawn):
            self._drawn, at = os.urandom(SESSION_RANDOM_BYTES * IDS_A_DRAW), 0
        self._at = at + SESSION_RANDOM_BYTES
        # As `core.presence.session_id`, which a storm of connects need not call for it.
        return (encoded(self._drawn[at : self._at]) + b"." + encoded(user)).decode()
