"""What `/readyz` answers, on every port that has it: whether this node should get traffic, and what is missing.

200 once this node's Replica has caught up with the heads it saw at start and every role answers. It does not turn back because
Redis is away: checks go on then, and a balancer should let them. A 200 may list `warnings`: what is wrong and no reason to send
traffic elsewhere, such as clocks that differ.

`Ready` holds what a role uses before it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from gate.errors import ReplicaError

RETRY_AFTER_S = 1
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the Prometheus exposition, which the same ports have."""


T = TypeVar("T")


class Ready(Generic[T]):
    """A dependency that may not be there yet, such as the Replica of a node that starts.

    It is made when it is first used, and again and again until `make` raises no more; or it is `put` once it is there.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        """`make` raises what an early use of it is to raise."""
        self._make = make
        self._made: T | None = None

    def put(self, made: T) -> None:
        """It is there."""
        self._made = made

    def get(self) -> T:
        """The dependency. Raises as `make` does."""
        if self._made is None:
            self._made = self._make()
        return self._made


class ReplicaState(Protocol):
    """A look at the Replica's status_page."""

    @property
    def ready(self) -> bool:
        """Whether the Replica has caught up with the heads it saw at start."""
        ...

    @property
    def why_not_ready(self) -> str:
        """What to say of it while it isn't ready."""
        ...

    @property
    def stale_ms(self) -> int:
        """For how long nothing has confirmed that the facts are complete; 0 while fresh."""
        ...


def readiness(
    roles_missing: Sequence[str], warnings: Callable[[], list[str]], replica: Callable[[], ReplicaState]
) -> tuple[int, dict[str, Any]]:
    """Status and body. `replica` may raise `ReplicaError` while no Replica is there."""
    missing = list(roles_missing)
    stale_ms: int | None = None
    try:
        status_page = replica()
        stale_ms = status_page.stale_ms
        if not status_page.ready:
            missing = [f"replica: {status_page.why_not_ready}", *missing]
    except ReplicaError as fault:
        missing = [f"replica: {fault}", *missing]
    if missing:
        return 503, {"ready": False, "missing": missing}
    warned = warnings()
    return 200, {"ready": True, "stale_ms": stale_ms, **({"warnings": warned} if warned else {})}
