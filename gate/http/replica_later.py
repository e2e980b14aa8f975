"""A Replica that may not be there yet: opened when first asked, again and again until the replicator has made it.

HTTP starts beside the replicator, and must say "not ready" until the first snapshot is loaded rather than fail to
start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from gate.core.model import AppFacts
from gate.core.presence import Verified
from gate.core.revision import Position, Revision
from gate.core.token import Claims
from gate.core.verdict import Verdict
from gate.http.dependencies import AppView, Replica
from gate.presence.local_sessions import Admissions
from gate.readiness import ReplicaState


class AdmittingReplica(Replica, Admissions, Protocol):
    """A Replica that also says who may have a Session."""


class ReplicaLater:
    """A `Replica` that raises `ReplicaError` as long as `open_replica` does, and is that Replica from then on."""

    def __init__(self, open_replica: Callable[[], AdmittingReplica]) -> None:
        self._open_replica = open_replica
        self._opened: AdmittingReplica | None = None

    @property
    def partitions(self) -> int:
        """As the Replica."""
        return self._replica().partitions

    def one_commit(self) -> AbstractContextManager[object]:
        """As the Replica."""
        return self._replica().one_commit()

    def app(self, app_key: str, /) -> AppView | None:
        """As the Replica."""
        return self._replica().app(app_key)

    def app_facts(self, app_key: str, /) -> AppFacts | None:
        """As `NodeReplica`."""
        return self._replica().app_facts(app_key)

    def admitted(self, shown: str, now_ms: int, /) -> Verified:
        """As the Replica."""
        return self._replica().admitted(shown, now_ms)

    def admitted_anew(self, app_key: str, user: bytes, minted_at_ms: int, now_ms: int, /) -> Verified:
        """As `NodeReplica`."""
        return self._replica().admitted_anew(app_key, user, minted_at_ms, now_ms)

    def may_stay(self, app_key: str, user: bytes, minted_at_ms: int, now_ms: int, /) -> Verified:
        """As `NodeReplica`."""
        return self._replica().may_stay(app_key, user, minted_at_ms, now_ms)

    def applied_of(self, app_key: str, user: bytes, /) -> tuple[str, int]:
        """As `NodeReplica`."""
        return self._replica().applied_of(app_key, user)

    def verify_token(self, shown: str, now_ms: int, /) -> Claims:
        """As the Replica."""
        return self._replica().verify_token(shown, now_ms)

    def applied(self, partition: int, /) -> Position | None:
        """As the Replica."""
        return self._replica().applied(partition)

    def applied_all(self) -> Sequence[Revision]:
        """As the Replica."""
        return self._replica().applied_all()

    def revision_of(self, app_key: str, users: Iterable[bytes], /) -> str:
        """As the Replica."""
        return self._replica().revision_of(app_key, users)

    def decided(self, app_key: str, sender: bytes, recipient: bytes, /) -> tuple[AppFacts, str, Verdict] | None:
        """As the Replica."""
        return self._replica().decided(app_key, sender, recipient)

    def stale_ms(self) -> int:
        """As the Replica."""
        return self._replica().stale_ms()

    def status_page(self) -> ReplicaState:
        """As the Replica."""
        return self._replica().status_page()

    def reaches(self, revisions: Sequence[Revision], /) -> bool | None:
        """As the Replica."""
        return self._replica().reaches(revisions)

    def _replica(self) -> AdmittingReplica:
        if self._opened is None:
            self._opened = self._open_replica()
        return self._opened
