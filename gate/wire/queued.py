"""What one connection has queued since MULTI: bounded by cost, by bytes, and by the bytes of all connections of a worker.

Used by `client`, and filled and carried out by `transactions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gate.core.revision import Revision
from gate.errors import InvalidInput

if TYPE_CHECKING:
    from gate.wire.client import Worker
    from gate.wire.table import Command

# Of one transaction: as many checks as one GATE.MCHECK may hold. A longer command counts for several.
MAX_QUEUED_WEIGHT = 10_000
# Of one transaction, what Python keeps of each argument included.
MAX_QUEUED_BYTES = 4 * 1024 * 1024
# Of all connections of one worker: a thousand of them that never send EXEC must not fill its memory.
MAX_QUEUED_BYTES_OF_WORKER = 64 * 1024 * 1024
# Histories of which EXEC waits for a Revision: a check may name as many, and there is one a Partition.
MAX_DEMANDED = 64
# What Python keeps of an argument in addition to its own bytes.
BYTES_AN_ARGUMENT = 64


class Entry(NamedTuple):
    """One queued command."""

    command: Command
    arguments: Sequence[bytes]


class Queued:
    """The queue. Once an error was answered (`spoil`) it stays empty, and EXEC is refused."""

    __slots__ = ("_bytes", "_worker", "demanded", "entries", "is_spoiled", "made_room", "weight")

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._bytes = 0
        self.entries: list[Entry] = []
        self.weight = 0
        self.is_spoiled = False
        self.made_room = False
        """Whether that was for the sake of others."""
        self.demanded: dict[tuple[int, str], Revision] = {}
        """The newest of each history that its checks demand with MIN."""

    def put(self, command: Command, arguments: Sequence[bytes]) -> None:
        """Raises `InvalidInput` where it is too much."""
        # Its commands are still answered QUEUED, as Redis does; nothing of them is kept.
        if self.is_spoiled:
            return
        # The name counts as an argument.
        size = sum(map(len, arguments)) + BYTES_AN_ARGUMENT * (len(arguments) + 1)
        weight = self.weight + (1 if command.weigh is None else command.weigh(arguments))
        if weight > MAX_QUEUED_WEIGHT:
            raise InvalidInput(
                "transaction",
                f"it counts for more than {MAX_QUEUED_WEIGHT} checks: send smaller ones, or a pipeline without MULTI",
            )
        if self._bytes + size > MAX_QUEUED_BYTES:
            raise InvalidInput(
                "transaction",
                f"it fills more than {MAX_QUEUED_BYTES} bytes: send smaller ones, or a pipeline without MULTI",
            )
        self._make_room(size)
        if self._worker.queued_bytes + size > MAX_QUEUED_BYTES_OF_WORKER:
            raise InvalidInput(
                "transaction",
                "too much of other connections is being carried out: send it again a moment later, or a pipeline without MULTI",
            )
        self.weight = weight
        self._bytes += size
        self._worker.queued_bytes += size
        self.entries.append(Entry(command, arguments))
        # A dict for its order: the first is the oldest transaction.
        self._worker.queues[self] = None

    def _make_room(self, size: int) -> None:
        """Drop the oldest unfinished transactions: a few idle connections could otherwise block all others."""
        worker = self._worker
        while worker.queued_bytes + size > MAX_QUEUED_BYTES_OF_WORKER:
            oldest = next((one for one in worker.queues if one is not self), None)
            if oldest is None:
                return
            oldest.made_room = True
            # At once, and not when its EXEC comes, which may be never.
            oldest.spoil()

    def demand(self, revisions: Sequence[Revision]) -> None:
        """EXEC waits for these, up to `MAX_DEMANDED`."""
        for one in revisions:
            of = one.partition, one.epoch
            known = self.demanded.get(of)
            if (known is None and len(self.demanded) < MAX_DEMANDED) or (known is not None and known.seq < one.seq):
                self.demanded[of] = one

    def begin(self) -> None:
        """EXEC came: from now on it makes no room for others."""
        self._worker.queues.pop(self, None)

    def spoil(self) -> None:
        """Nothing of it will be carried out."""
        self.is_spoiled = True
        self.drop()

    def drop(self) -> None:
        """Forget the commands."""
        self.begin()
        self._worker.queued_bytes -= self._bytes
        self._bytes = self.weight = 0
        self.entries = []
