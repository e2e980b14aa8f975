"""Whether this machine's replicator runs, as far as the data directory tells."""

from __future__ import annotations

import os
from pathlib import Path

from gate.clock import monotonic_ms
from gate.errors import ReplicaError
from gate.replica.board import Board, BoardView, State
from gate.replica.layout import BOARD_FILE


def replicator_lives(board: BoardView) -> bool:
    """Whether the process that wrote the board still runs."""
    if not board.pid or board.state is State.STOPPED:
        return False
    try:
        os.kill(board.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as somebody else
        return True
    return True


def replicator_runs(directory: Path) -> bool:
    """The same, of the Replica in `directory`; False if there is none."""
    try:
        board = Board(directory / BOARD_FILE)
    except ReplicaError:
        return False
    try:
        return replicator_lives(board.view(monotonic_ms()))
    finally:
        board.close()
