"""Reads everything that a deployment keeps in Redis, while it works, as the records of a backup file.

Each Partition's facts are those of one Revision: all keys are read by a SCAN while the Changelog is followed, Users that
Changes name meanwhile are read again, and a last script reads the Partition's head together with the Users of its newest
Changes. These scripts of all Partitions are sent in one exchange, so that their moments are milliseconds apart, but not equal.

What no Change is made for is as of some moment during the backup: names, portraits, moments of the latest Token, jobs, results
for webhooks. Apps and operators are read right after the last scripts. The audit of each Partition ends at its moment.
Presence, sessions of the console, used nonces and settings of nodes are not read.

Memory holds one batch, and the ids of the Users that were changed meanwhile.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from gate.core.backup import MAX_ROWS, End, Entries, Record, Rows, UserKey, chunks, count_of
from gate.core.changes import ChangeUnreadable, check_follows
from gate.core.revision import APPS_PARTITION, Position
from gate.errors import ChangelogBroken, Unavailable
from gate.store import keys, scripts
from gate.store.link import Command, Reply
from gate.store.scripts import Call
from gate.store.snapshot import read_user_keys
from gate.store.store import Store

# Users that are read again in one pipeline.
AGAIN_AT_ONCE = 100
# Changes of a Partition whose Users the last script reads: some milliseconds of the server's time.
LAST_CHANGES = 500
# Rounds of reading changed Users again, before a deployment counts as too busy: each takes the time of the one before, or less.
MAX_ROUNDS = 100
# Users that are changed meanwhile, kept in memory: 100 bytes each.
MAX_CHANGED = 2_000_000
FOLLOW_BLOCK_MS = 50
# Entries of a stream that are read at a time, of each Partition.
STREAM_PAGE = 250

_Changed = dict[tuple[str, bytes], None]


class BackupSource:
    """One reading of a deployment. Every method may raise `StoreUnavailable`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client = store.client
        self._at: list[Position] = []
        self._changed: _Changed = {}
        self._moments: list[int] = []
        self._apps: list[str] = []
        self._entries: Counter[str] = Counter()

    async def records(self, *, with_audit: bool = True) -> AsyncIterator[Sequence[Record]]:
        """Yield everything in batches. Also raises `Unavailable` if facts change too fast to be followed."""
        await self._store.changelog.prepare()
        self._at = await self._store.changelog.heads()
        async with self._following():
            async for batch in read_user_keys(self._client, self._store.partitions, _reading, _scanned):
                yield self._counted(batch)
        async for batch in self._read_again():
            yield self._counted(batch)
        async for batch in self._of_the_deployment():
            yield self._counted(batch)
        async for batch in self._streams(with_audit):
            yield self._counted(batch)

    @property
    def count(self) -> int:
        """Entries so far."""
        return self._entries.total()

    def end(self) -> End:
        """Return the last block of the file, after all records."""
        heads = [(at.epoch, at.seq, moment) for at, moment in zip(self._at, self._moments, strict=True)]
        return End(entries=dict(sorted(self._entries.items())), heads=heads)

    def _counted(self, batch: Sequence[Record]) -> Sequence[Record]:
        for record in batch:
            self._entries[record.noun] += count_of(record)
        return batch

    @asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        """Note the Users of all Changes meanwhile: the log may be trimmed before the SCAN is over."""
        ended = asyncio.Event()

        async def follow() -> None:
            while not ended.is_set():
                await self._read_changes(FOLLOW_BLOCK_MS)

        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            ended.set()
            await following

    async def _read_changes(self, block_ms: int) -> int:
        """Read further Changes. Returns how many there were."""
        try:
            found = await self._store.changelog.read(self._at, block_ms)
            for partition, changes in found.items():
                self._at[partition] = check_follows(self._at[partition], changes)
                self._changed.update(dict.fromkeys((change.app, change.user) for change in changes if change.user))
        except (ChangelogBroken, ChangeUnreadable) as fault:
            raise Unavailable(f"the facts changed faster than they were read ({fault}): try again") from None
        if len(self._changed) > MAX_CHANGED:
            raise Unavailable(f"more than {MAX_CHANGED:,} Users changed meanwhile: try at a quieter time")
        return sum(map(len, found.values()))

    async def _read_again(self) -> AsyncIterator[Sequence[Record]]:
        """Yield the changed Users again, until the last scripts read all Partitions as of their heads."""
        for _ in range(MAX_ROUNDS):
            count = await self._read_changes(1)
            changed, self._changed = list(self._changed), {}
            for first in range(0, len(changed), AGAIN_AT_ONCE):
                yield await self._users(changed[first : first + AGAIN_AT_ONCE])
            if count > LAST_CHANGES:
                continue
            replies = await self._client.query_each([self._last_call(*one) for one in enumerate(self._at)])
            if any(reply == [b"behind"] for reply in replies):
                continue
            for partition, reply in enumerate(replies):
                yield self._last(partition, reply)
            return
        raise Unavailable("facts change faster than they are read: try at a quieter time")

    def _last(self, partition: int, reply: Reply) -> list[Record]:
        """Note a Partition's head and moment. Returns its last records."""
        epoch, seq, tip, moment_ms, *users = reply
        if epoch.decode() != self._at[partition].epoch:
            raise Unavailable(f"Partition {partition} began a new history: try again")
        self._at[partition] = Position(epoch.decode(), seq, tip.decode())
        self._moments.append(moment_ms)
        return [record for app, user, *rows in users for record in _replacing(app.decode(), user, rows)]

    def _last_call(self, partition: int, at: Position) -> Call:
        prefixes = [keys.user_prefix(partition, noun) for noun in keys.USER_NOUNS]
        return Call(scripts.BACKUP_READ, [keys.meta(partition), keys.log(partition)], [at.seq, LAST_CHANGES, *prefixes])

    async def _users(self, users: Sequence[tuple[str, bytes]]) -> list[Record]:
        commands: list[Command] = []
        for app, user in users:
            partition = self._store.writer.partition_of(app, user)
            commands += [_reading(keys.UserKey(partition, noun, app, user)) for noun in keys.USER_NOUNS]
        replies = iter(await self._client.read(*commands))
        return [
            record for app, user in users for record in _replacing(app, user, [next(replies) for _ in keys.USER_NOUNS])
        ]

    async def _of_the_deployment(self) -> AsyncIterator[Sequence[Record]]:
        apps, operators = await self._client.read(("HGETALL", keys.apps()), ("HGETALL", keys.operators()))
        self._apps = [key.decode() for key in apps[::2]]
        yield [*_rows("apps", "", apps), *_rows("operators", "", operators)]
        for app in self._apps:
            (quota,) = await self._client.read(("ZRANGE", keys.quota(app), 0, -1, "WITHSCORES"))
            yield list(_rows("quota", app, quota))
        for partition in range(self._store.partitions):
            (jobs,) = await self._client.read(("ZRANGE", keys.jobs(partition), 0, -1, "WITHSCORES"))
            yield list(_rows("jobs", "", jobs))

    async def _streams(self, with_audit: bool) -> AsyncIterator[Sequence[Record]]:
        every = range(self._store.partitions)
        asked = [("hooks", "", [(at, keys.hooks(at)) for at in every]),
                 ("hooks-dead", "", [(at, keys.dead_hooks(at)) for at in every])]  # fmt: skip
        if with_audit:
            asked.append(("deployment-audit", "", [(APPS_PARTITION, keys.deployment_audit())]))
            asked += [("audit", app, [(at, keys.audit(at, app)) for at in every]) for app in self._apps]
        for noun, app, streams in asked:
            async for entries in _merged([self._stream(key, self._moments[at]) for at, key in streams]):
                yield [Entries(noun, app, entries)]

    async def _stream(self, key: bytes, to_ms: int) -> AsyncIterator[tuple[bytes, list[bytes]]]:
        """Yield a stream's entries up to the moment of its Partition, oldest first."""
        after = "-"
        while True:
            (rows,) = await self._client.read(("XRANGE", key, after, to_ms, "COUNT", STREAM_PAGE))
            for entry_id, flat in rows:
                yield entry_id, flat
            if len(rows) < STREAM_PAGE:
                return
            after = f"({rows[-1][0].decode()}"


async def _merged(
    streams: Iterable[AsyncIterator[tuple[bytes, list[bytes]]]],
) -> AsyncIterator[list[tuple[bytes, list[bytes]]]]:
    """Yield the entries of several streams in the order of their ids, so that a restore can append them in any Partition."""
    heap: list[tuple[tuple[int, int], int, tuple[bytes, list[bytes]]]] = []
    opened = list(streams)

    async def push(number: int) -> None:
        entry = await anext(opened[number], None)
        if entry is not None:
            heapq.heappush(heap, (id_parts(entry[0]), number, entry))

    for number in range(len(opened)):
        await push(number)
    batch: list[tuple[bytes, list[bytes]]] = []
    while heap:
        _, number, entry = heapq.heappop(heap)
        batch.append(entry)
        if len(batch) == MAX_ROWS:
            yield batch
            batch = []
        await push(number)
    if batch:
        yield batch


def id_parts(entry_id: bytes) -> tuple[int, int]:
    """Return the two numbers of a stream's entry id."""
    moment, _, number = entry_id.partition(b"-")
    return int(moment), int(number)


def _reading(key: keys.UserKey) -> Command:
    name = keys.user_key(*key)
    return ("HGETALL", name) if key.noun == "user" else ("ZRANGE", name, 0, -1, "WITHSCORES")


def _scanned(key: keys.UserKey, reply: Reply) -> list[Record]:
    # Empty: deleted since the SCAN.
    return [UserKey(key.noun, key.app, key.user, flat) for flat in chunks(reply)] if reply else []


def _replacing(app: str, user: bytes, replies: Sequence[Reply]) -> list[Record]:
    """Records of all keys of a User, which take the place of earlier ones; empty for a key that does not exist."""
    return [
        UserKey(noun, app, user, flat, replaces=number == 0)
        for noun, reply in zip(keys.USER_NOUNS, replies, strict=True)
        for number, flat in enumerate(chunks(reply))
    ]


def _rows(noun: str, app: str, flat: Sequence[bytes]) -> Iterable[Rows]:
    return (Rows(noun, app, some) for some in chunks(flat)) if flat else ()
