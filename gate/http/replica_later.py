"""A Replica that may not be there yet: opened when first asked, again and again until the replicator has made it.

HTTP starts beside the replicator, and must say "not ready" until the first snapshot is loaded rather than fail to
start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gate.core.revision import Position, Revision
from gate.core.token import Claims
from gate.http.ports import AppView, Board, Replica


class ReplicaLater:
    """A `Replica` that raises `ReplicaError` as long as `open_replica` does, and is that Replica from then on."""

    def __init__(self, open_replica: Callable[[], Replica]) -> None:
        self._open_replica = open_replica
        self._opened: Replica | None = None

    @property
    def partitions(self) -> int:
        """As the Replica."""
        return self._replica().partitions

    def app(self, app_key: str, /) -> AppView | None:
        """As the Replica."""
        return self._replica().app(app_key)

    def verify_token(self, shown: str, now_ms: int, /) -> Claims:
        """As the Replica."""
        return self._replica().verify_token(shown, now_ms)

    def applied(self, partition: int, /) -> Position | None:
        """As the Replica."""
        return self._replica().applied(partition)

    def applied_all(self) -> Sequence[Revision]:
        """As the Replica."""
        return self._replica().applied_all()

    def board(self) -> Board:
        """As the Replica."""
        return self._replica().board()

    def reaches(self, revisions: Sequence[Revision], /) -> bool | None:
        """As the Replica."""
        return self._replica().reaches(revisions)

    def _replica(self) -> Replica:
        if self._opened is None:
            self._opened = self._open_replica()
        return self._opened
