"""The Changelog as a replicator follows it: heads, proofs, and one blocking read over all Partitions.

The read has a Link of its own, so that no write waits behind it. Replies are decoded straight from the wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from gate.core.changes import Change, decode_change
from gate.core.partition import APPS_PARTITION
from gate.core.revision import NOWHERE, Position
from gate.core.snapshot import Part
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.client import Client, raise_if_error
from gate.store.link import Command, Link, LinkLost, Reply
from gate.store.opening import open_partitions
from gate.store.snapshot import read_snapshot

MAX_CHANGES_A_READ = 1_000
"""Of each Partition: a batch that is applied in some 10 ms, and small beside what it saves to batch."""


class Changelog:
    """All Partitions' Changelogs, and the facts behind them. Every method raises `StoreUnavailable`."""

    def __init__(self, client: Client, partitions: int) -> None:
        self._client = client
        self._partitions = partitions
        self._link: Link | None = None

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
        return _fields(rows[0][1])[b"w"].decode() if rows else None

    async def read(self, after: Sequence[Position], block_ms: int) -> dict[int, list[Change]]:
        """Changes after each Position, oldest first, waiting up to `block_ms` for the first.

        A Partition without news is absent. Raises `ChangeUnreadable` too.
        """
        streams = [keys.log(partition) for partition in range(self._partitions)]
        after_ids = [b"%d-0" % position.seq for position in after]
        command: Command = (
            "XREAD",
            "COUNT",
            MAX_CHANGES_A_READ,
            "BLOCK",
            max(1, block_ms),
            "STREAMS",
            *streams,
            *after_ids,
        )
        reply = await self._on_own_link(command, block_ms + self._client.deadline_ms)
        changes = {
            partition: [decode_change(int(entry_id[:-2]), _fields(flat)) for entry_id, flat in entries]
            for partition, entries in ((_partition_of_log(log), entries) for log, entries in reply or ())
        }
        apps = changes.get(APPS_PARTITION)
        if apps is not None and len(apps) >= MAX_CHANGES_A_READ:
            # More Changes of Apps may follow than this read took; facts of an App must not overtake its creation.
            return {APPS_PARTITION: apps}
        return changes

    def snapshot(self) -> AsyncIterator[Sequence[Part]]:
        """All facts, in batches; Apps first. Facts that change meanwhile may show as before or after."""
        return read_snapshot(self._client)

    async def aclose(self) -> None:
        """Close the reading Link."""
        if self._link is not None:
            await self._link.aclose()

    async def _on_own_link(self, command: Command, deadline_ms: int) -> Reply:
        if self._link is None or not self._link.is_open:
            self._link = await self._client.open_dedicated()
        try:
            (reply,) = await self._link.exchange([command], deadline_ms)
        except LinkLost as loss:
            raise StoreUnavailable(str(loss)) from None
        raise_if_error(reply)
        return reply


def _fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _partition_of_log(key: bytes) -> int:
    """Out of `gate:{p}:log`."""
    return int(key[6 : key.index(b"}")])
