"""The Changelog as a replicator follows it: heads, proofs, and one read over all Partitions. Replies are decoded directly.

Blocking reads have Links of their own, so that they delay no write. A single server is asked for all Changelogs in one read. A
Redis Cluster refuses a read of several slots, so each Changelog has a read and a Link of its own there, which continues while
others' entries are applied. A failed read is repeated at the slot's present server, and entries that it returns twice are
dropped. `read` fails if all of them fail, and once if a Changelog has moved to another server: the caller then compares
histories.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from gate.clock import monotonic_ms
from gate.core.changes import Change, decode_entry
from gate.core.revision import APPS_PARTITION, NOWHERE, Position
from gate.core.snapshot import Part
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.bootstrap import open_partitions
from gate.store.client import Client
from gate.store.link import Command, Link, LinkLost, ReplyError, raise_if_error
from gate.store.snapshot import read_snapshot

# Per Partition: a batch that is applied in some 10 ms; larger ones would save little more.
MAX_CHANGES_A_READ = 1_000
# Size after answers that came too late, as from a server that is busy with an import: a request of the same size would be
# late again. Each answer in time lets the next request grow by this number.
LEAST_CHANGES_A_READ = 50
# Of each read of a Cluster, regardless of the caller's wait: sixteen reads that end four times a second would be waste.
BLOCK_MS = 1_000
# Before a failed read of a Cluster is repeated.
RETRY_MS = 100

# An entry's id, and its fields' names and values alternating.
Entry = tuple[bytes, list[bytes]]


class Changelog:
    """All Partitions' Changelogs, and the facts. Every method may raise `StoreUnavailable`."""

    def __init__(self, client: Client, partitions: int) -> None:
        self._client = client
        self._partitions = partitions
        self._reader = _ClusterLogReader(client) if client.address.seeds else _LogReader(client)

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
            last, asked = _seq_of(newest[-1][0]), self._reader.most
            log, behind = keys.log(APPS_PARTITION), b"(%d-0" % last
            (newest,) = await self._client.read(("XRANGE", log, behind, "+", "COUNT", asked))
            found[APPS_PARTITION] += newest
        return {
            # An entry's id is `<seq>-0`.
            partition: [decode_entry(int(entry_id[:-2]), flat) for entry_id, flat in some]
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


class _LogReader:
    """Reads some Changelogs from one server, over a Link of its own."""

    def __init__(self, server: Client) -> None:
        self.server = server
        self._link: Link | None = None
        self.most = MAX_CHANGES_A_READ
        """Maximum of entries requested per Partition."""
        self.after_seq = 0
        self.run = ""
        """The run of the server to which the Link leads."""
        self.problem = ""
        """Why the last read failed."""
        self.failed_at_ms = -RETRY_MS
        self.under_way: asyncio.Task[dict[int, list[Entry]]] | None = None

    async def read(self, after: Mapping[int, int], block_ms: int) -> dict[int, list[Entry]]:
        """Return entries after these sequence numbers, by Partition, waiting up to `block_ms` for the first of any.

        Raises `StoreUnavailable`.
        """
        partition_of = {keys.log(partition): partition for partition in after}
        command: Command = (
            *("XREAD", "COUNT", self.most, "BLOCK", max(1, block_ms), "STREAMS"),
            *partition_of,
            *(b"%d-0" % seq for seq in after.values()),
        )
        if self._link is None or not self._link.is_open:
            self._link = await self.server.open_dedicated()
            self.run = self._link.server_id
        try:
            (reply,) = await self._link.exchange([command], block_ms + self.server.deadline_ms)
        except LinkLost as loss:
            # A large answer may have been the reason.
            self.most = max(LEAST_CHANGES_A_READ, self.most // 4)
            raise StoreUnavailable(str(loss)) from None
        if isinstance(reply, ReplyError):
            raise_if_error(reply)
        self.most = min(MAX_CHANGES_A_READ, self.most + LEAST_CHANGES_A_READ)
        return {partition_of[log]: entries for log, entries in reply or ()}

    def drop(self, problem: str) -> None:
        """Cancel the read in progress, and close the connection."""
        if self.under_way is not None:
            self.under_way.cancel()
            self.under_way = None
        if self._link is not None:
            self._link.drop(problem)

    async def aclose(self) -> None:
        """Close the Link."""
        link = self._link
        self.drop("closed")
        if link is not None:
            await link.aclose()


class _ClusterLogReader:
    """Reads Changelogs from all masters of a Cluster at once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._readings: dict[int, _LogReader] = {}
        self._runs: dict[int, str] = {}
        """The run of the server from which each Changelog was read last."""
        self._news = asyncio.Event()

    @property
    def most(self) -> int:
        """The smallest of all."""
        return min((each.most for each in self._readings.values()), default=MAX_CHANGES_A_READ)

    async def read(self, after: Mapping[int, int], block_ms: int) -> dict[int, list[Entry]]:
        """As `_LogReader.read`."""
        until_ms = monotonic_ms() + block_ms
        while True:
            # Before the results are collected, so that none is missed in between.
            self._news.clear()
            for partition, seq in after.items():
                self._go_on(partition, seq)
            found = self._taken(after)
            left_ms = until_ms - monotonic_ms()
            if found or left_ms <= 0:
                return found
            problems = {each.problem for each in self._readings.values()}
            # All of them fail: not only some masters are away.
            if problems and "" not in problems:
                raise StoreUnavailable(next(iter(problems)))
            try:
                async with asyncio.timeout(min(left_ms, RETRY_MS if any(problems) else left_ms) / 1_000):
                    await self._news.wait()
            except TimeoutError:
                pass

    def _go_on(self, partition: int, seq: int) -> None:
        """Ensure that a read of the entries after `seq` is in progress, at the server that has the Changelog now."""
        reading = self._readings.get(partition)
        try:
            server = self._client.master_of(keys.log(partition))
        except StoreUnavailable as fault:
            if reading is not None:
                reading.problem = str(fault)
            return
        if reading is not None and (reading.server is not server or reading.after_seq > seq):
            reading.drop("the read continues elsewhere")
            reading = None
        if reading is None:
            reading = self._readings[partition] = _LogReader(server)
        if reading.under_way is None and monotonic_ms() - reading.failed_at_ms >= RETRY_MS:
            reading.after_seq = seq
            task = asyncio.get_running_loop().create_task(reading.read({partition: seq}, BLOCK_MS))
            # Wakes `read`, whichever Changelog has news.
            task.add_done_callback(lambda _: self._news.set())
            reading.under_way = task

    def _taken(self, after: Mapping[int, int]) -> dict[int, list[Entry]]:
        found: dict[int, list[Entry]] = {}
        for partition, reading in self._readings.items():
            if reading.under_way is None or not reading.under_way.done():
                continue
            task, reading.under_way = reading.under_way, None
            if isinstance(fault := task.exception(), StoreUnavailable):
                reading.problem, reading.failed_at_ms = str(fault), monotonic_ms()
                continue
            reading.problem = ""
            if self._runs.setdefault(partition, reading.run) != reading.run:
                self._runs[partition] = reading.run
                raise StoreUnavailable(f"Partition {partition} is on another server now, or on another run of it")
            entries = task.result().get(partition, [])
            # A read in progress may have started before entries that the caller has applied since.
            if new := [entry for entry in entries if _seq_of(entry[0]) > after[partition]]:
                found[partition] = new
        return found

    async def aclose(self) -> None:
        """Close every Link."""
        for reading in self._readings.values():
            await reading.aclose()


def _seq_of(entry_id: bytes) -> int:
    """Parse the sequence number of `<seq>-0`."""
    return int(entry_id[:-2])
