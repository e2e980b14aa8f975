"""What this process opened: the Sessions that it would bring back if Redis lost them.

By App and Gateway, for one epoch at a time; a higher one forgets the rest, as the lease does. Kept in memory only: a process
that dies has nothing to bring back, and the lease that it renewed ends by itself.

Called by `door`.
"""

from __future__ import annotations

from typing import NamedTuple

Held = tuple[str, bytes]
"""An App's key and a Gateway's name."""


class Kept(NamedTuple):
    """A Session as it would be opened again."""

    user: bytes
    stored_id: str
    platform: str
    ip: str
    minted_at_ms: int
    since_ms: int


class Registry:
    """The Sessions of each Gateway that speaks through this process."""

    def __init__(self) -> None:
        self._epochs: dict[Held, int] = {}
        self._sessions: dict[Held, dict[tuple[bytes, str], Kept]] = {}

    def lease(self, held: Held, epoch: int) -> None:
        """The Gateway's epoch is this one now; Sessions of another are over."""
        if self._epochs.get(held) != epoch:
            self._epochs[held] = epoch
            self._sessions[held] = {}

    def let_go(self, held: Held, epoch: int) -> None:
        """Nobody renews this lease through here any more."""
        if self._epochs.get(held) == epoch:
            del self._epochs[held], self._sessions[held]

    def add(self, held: Held, epoch: int, session: Kept) -> None:
        """It is open."""
        if self._epochs.get(held) == epoch:
            self._sessions[held][session.user, session.stored_id] = session

    def drop(self, held: Held, user: bytes, stored_id: str) -> None:
        """It is closed, or was never there."""
        if held in self._sessions:
            self._sessions[held].pop((user, stored_id), None)

    def sessions(self, held: Held, epoch: int) -> list[Kept]:
        """All that is open under this lease."""
        return list(self._sessions[held].values()) if self._epochs.get(held) == epoch else []

    def __len__(self) -> int:
        return sum(map(len, self._sessions.values()))
