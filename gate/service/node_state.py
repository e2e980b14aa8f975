"""What a probe or a scrape is answered from: the pages on which the processes of a service, and its Replica, show their state.

Each answer is a read of memory. Used by the HTTP processes, and by the supervisor on `--health`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gate.clock import monotonic_ms
from gate.errors import ReplicaMissing
from gate.readiness import readiness
from gate.replica.layout import BOARD_FILE
from gate.replica.status_page import StatusPage, StatusView
from gate.service.heartbeats import Heartbeats


class NodeState:
    """One a process. `were_all_here`: every process of the service answered before."""

    def __init__(self, roles: Heartbeats, replica: Path, *, were_all_here: bool = False) -> None:
        self._roles = roles
        self._data = replica.parent
        self._path = replica / BOARD_FILE
        self._board: StatusPage | None = None
        self._were_all_here = were_all_here

    def missing(self) -> list[str]:
        """The processes that do not answer. Once all have, the embedded server's absence counts no more than Redis's."""
        silent = self._roles.silent(monotonic_ms())
        # It never turns back: readiness must not change with Redis, which this node can do without.
        self._were_all_here = self._were_all_here or not silent
        counted = [name for name in silent if name != "redis"] if self._were_all_here else silent
        return [self._roles.explained(name) for name in counted]

    def warnings(self) -> list[str]:
        """What is wrong although every process answers."""
        return self._roles.warnings(monotonic_ms())

    def figures(self) -> StatusView | None:
        """Of the Replica, once there is a board."""
        try:
            return self.replica()
        except ReplicaMissing:
            return None

    def replica(self) -> StatusView:
        """The state of the Replica; `ReplicaError` while no Replica is there."""
        if self._board is None:
            self._board = StatusPage(self._path)
        return self._board.view(monotonic_ms())

    def readyz(self) -> tuple[int, dict[str, Any]]:
        """Status and body of `/readyz`."""
        return readiness(self.missing(), self.warnings, self.replica)

    def metrics(self, before: Callable[[], None] = lambda: None) -> bytes:
        """The page for a scrape, of all processes of the service; `before` passes on what this one has counted."""
        from gate.metrics import render_metrics  # late: the supervisor starts everything else first
        from gate.service.node_metrics import NodeCollector

        before()
        node = NodeCollector(self._roles.pids, self._data)
        return render_metrics(self.figures, lambda: self._roles.answering(monotonic_ms()), [node])
