"""The Changelog as a replicator follows it: heads, proofs, and one blocking read over all Partitions.

The read has a Link of its own, so that no write waits behind it. Replies are decoded straight from the wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from gate.core.changes import Change, decode_entry
from gate.core.partition import APPS_PARTITION
from gate.core.revision import NOWHERE, Position
from gate.core.snapshot import Part
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.client import Client, raise_if_error
from gate.store.link import Command, Link, LinkLost
from gate.store.opening import open_partitions
from gate.store.snapshot import read_snapshot

MAX_CHANGES_A_READ = 1_000
"""Of each Partition: a batch that is applied in some 10 ms, and small beside what it saves to batch."""
LEAST_CHANGES_A_READ = 50
"""Asked for after answers that did not come in time, as of a server that is busy with an import: asked for as many again, it
would not answer in time again. Each answer in time lets the next be larger by as many."""


_Entry = tuple[bytes, list[bytes]]
"""An entry's id, and its fields' names and values in turn."""


class Changelog:
    """All Partitions' Changelogs, and the facts behind them. Every method raises `StoreUnavailable`."""

    def __init__(self, client: Client, partitions: int) -> None:
        self._client = client
        self._partitions = partitions
        self._link: Link | None = None
        self._changes_a_read = MAX_CHANGES_A_READ

    @property
    def partitions(self) -> int:
        """How many Partitions the deployment has."""
        return self._partitions

    async def prepare(self) -> None:
        """Give every Partition an epoch if it has none. Raises `InvalidConfig` if Redis is another deployment's."""
        await open_partitions(self._client, range(self._partitions), self._partitions)

    async def heads(self) -> list[Position]:
        """Each Partition's head; `NOWHERE` without history."""
        fields = (keys.META_EPOCH, keys.META_SEQ, keys.META_TIP)
        replies = await self._client.read(*(("HMGET", keys.meta(p), *fields) for p in range(self._partitions)))
        return [
            Position(epoch.decode(), int(seq or 0), (tip or b"").decode()) if epoch else NOWHERE
            for epoch, seq, tip in replies
        ]

    async def write_id_at(self, partition: int, seq: int) -> str | None:
        """The write id of the entry at `seq`; None if the log does not hold it."""
        at = b"%d-0" % seq
        (rows,) = await self._client.read(("XRANGE", keys.log(partition), at, at))
        return decode_entry(seq, rows[0][1]).write_id if rows else None

    async def read(self, after: Sequence[Position], block_ms: int) -> dict[int, list[Change]]:
        """Changes after each Position, oldest first, waiting up to `block_ms` for the first.

        A Partition without news is absent. Raises `ChangeUnreadable` too.
        """
        asked = self._changes_a_read
        entries = await self._read_raw(list(enumerate(position.seq for position in after)), block_ms)
        newest = entries.get(APPS_PARTITION, [])
        while len(newest) >= asked:
            # More may follow than was read, and facts of an App must not overtake its creation.
            last, asked = _seq_of(newest[-1][0]), self._changes_a_read
            newest = (await self._read_raw([(APPS_PARTITION, last)], 1)).get(APPS_PARTITION, [])
            entries[APPS_PARTITION] += newest
        return {
            partition: [decode_entry(_seq_of(entry_id), flat) for entry_id, flat in some]
            for partition, some in entries.items()
        }

    def reconnect(self, problem: str) -> None:
        """Close every connection; the next call makes new ones."""
        self._client.reconnect(problem)

    def snapshot(self) -> AsyncIterator[Sequence[Part]]:
        """All facts, in batches; Apps first. Facts that change meanwhile may show as before or after."""
        return read_snapshot(self._client)

    async def aclose(self) -> None:
        """Close the reading Link."""
        if self._link is not None:
            await self._link.aclose()

    async def _read_raw(self, after: Sequence[tuple[int, int]], block_ms: int) -> dict[int, list[_Entry]]:
        """Entries after each (Partition, seq), as the server sends them."""
        streams = [keys.log(partition) for partition, _ in after]
        command: Command = (
            *("XREAD", "COUNT", self._changes_a_read, "BLOCK", max(1, block_ms), "STREAMS"),
            *streams,
            *(b"%d-0" % seq for _, seq in after),
        )
        if self._link is None or not self._link.is_open:
            self._link = await self._client.open_dedicated()
        try:
            (reply,) = await self._link.exchange([command], block_ms + self._client.deadline_ms)
        except LinkLost as loss:
            self._changes_a_read = max(LEAST_CHANGES_A_READ, self._changes_a_read // 4)
            raise StoreUnavailable(str(loss)) from None
        raise_if_error(reply)
        self._changes_a_read = min(MAX_CHANGES_A_READ, self._changes_a_read + LEAST_CHANGES_A_READ)
        return {_partition_of_log(log): entries for log, entries in reply or ()}


def _seq_of(entry_id: bytes) -> int:
    """Out of `<seq>-0`."""
    return int(entry_id[:-2])


def _partition_of_log(key: bytes) -> int:
    """Out of `gate:{p}:log`."""
    return int(key[6 : key.index(b"}")])
