"""The Changelog as a replicator follows it: heads, proofs, and one read over all Partitions (`log_reading`).

Replies are decoded directly from the wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from gate.core.changes import Change, decode_entry
from gate.core.partition import APPS_PARTITION
from gate.core.revision import NOWHERE, Position
from gate.core.snapshot import Part
from gate.store import keys
from gate.store.bootstrap import open_partitions
from gate.store.client import Client
from gate.store.log_reading import LogReader, seq_of
from gate.store.snapshot import read_snapshot


class Changelog:
    """All Partitions' Changelogs, and the facts. Every method may raise `StoreUnavailable`."""

    def __init__(self, client: Client, partitions: int) -> None:
        self._client = client
        self._partitions = partitions
        self._reader = LogReader(client)

    @property
    def partitions(self) -> int:
        """Number of Partitions of the deployment."""
        return self._partitions

    @property
    def is_partly_away(self) -> bool:
        """Whether some masters of a Cluster are away while the others answer."""
        return self._client.is_partly_away

    async def prepare(self) -> None:
        """Give every Partition an epoch if it has none. Raises `InvalidConfig` if Redis holds another deployment."""
        await open_partitions(self._client, range(self._partitions), self._partitions)

    async def heads(self) -> list[Position]:
        """Return each Partition's head; `NOWHERE` without history."""
        fields = (keys.META_EPOCH, keys.META_SEQ, keys.META_TIP)
        replies = await self._client.read(*(("HMGET", keys.meta(p), *fields) for p in range(self._partitions)))
        return [
            Position(epoch.decode(), int(seq or 0), (tip or b"").decode()) if epoch else NOWHERE
            for epoch, seq, tip in replies
        ]

    async def write_id_at(self, partition: int, seq: int) -> str | None:
        """Return the write id of the entry at `seq`; None if the log does not hold it."""
        at = b"%d-0" % seq
        (rows,) = await self._client.read(("XRANGE", keys.log(partition), at, at))
        # An exact range has at most one entry.
        return decode_entry(seq, rows[0][1]).write_id if rows else None

    async def read(self, after: Sequence[Position], block_ms: int) -> dict[int, list[Change]]:
        """Return Changes after each Position, oldest first. Waits up to `block_ms` for the first.

        A Partition without Changes is absent. Also raises `ChangeUnreadable`.
        """
        asked = self._reader.most
        found = await self._reader.read({partition: at.seq for partition, at in enumerate(after)}, block_ms)
        # Only Partition 0 is read to its end.
        newest = found.get(APPS_PARTITION, [])
        while len(newest) >= asked:
            # The log may hold more than was read, and an App's facts should not be read before its creation. On a Cluster
            # they may be; nothing depends on it (`replica.writer`).
            last, asked = seq_of(newest[-1][0]), self._reader.most
            log, behind = keys.log(APPS_PARTITION), b"(%d-0" % last
            (newest,) = await self._client.read(("XRANGE", log, behind, "+", "COUNT", asked))
            found[APPS_PARTITION] += newest
        return {
            partition: [decode_entry(seq_of(entry_id), flat) for entry_id, flat in some]
            for partition, some in found.items()
        }

    def reconnect(self, problem: str) -> None:
        """Close every connection. The next call opens new ones."""
        self._client.reconnect(problem)

    def snapshot(self) -> AsyncIterator[Sequence[Part]]:
        """Yield all facts in batches, Apps first. A fact that changes meanwhile may be old or new."""
        return read_snapshot(self._client, self._partitions)

    async def aclose(self) -> None:
        """Close the reader's connections."""
        await self._reader.aclose()
