"""The snapshot: every fact in Redis, found by a SCAN of each server's keys and read in pipelines, on a separate Link.

`read_user_keys` is that scan, for the snapshot and for a backup, which read different things of the same keys.

SCAN returns every key that exists throughout. A fact that changes meanwhile may be old or new: the follower read the
Changelogs' heads first, and every Change since then states its fact outright. On a Redis Cluster all masters are read in
parallel. If a slot is moved meanwhile, both of its masters' SCANs could miss it, so the snapshot then fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from gate.core.codec import unpack_app
from gate.core.model import FOREVER_MS, ListKind
from gate.core.snapshot import AppPart, ListPart, Part, UserPart
from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.client import Client
from gate.store.keys import UserKey
from gate.store.link import Command, Link, LinkLost, Reply, raise_if_error
from gate.store.users import FACT_FIELDS, facts_of

# Keys per step: one pipeline of reads, some thousands of members, a few ms of the server's time.
SCAN_COUNT = 1_000
# Per step. Generous, because a list without a ceiling is read whole.
SNAPSHOT_DEADLINE_MS = 10_000

# Batches of all masters that wait for the caller: each is some hundred kB.
MOST_WAITING = 4

_KIND = {word: kind for kind, word in keys.LIST_WORD.items()}

T = TypeVar("T")
# The command that reads a key, and what its reply holds.
Reading = Callable[[UserKey], Command]
Parsing = Callable[[UserKey, Reply], list[T]]


async def read_snapshot(client: Client, partitions: int) -> AsyncIterator[Sequence[Part]]:
    """Yield all facts in batches, Apps first. Raises `StoreUnavailable`."""
    (packed_apps,) = await client.read(("HVALS", keys.apps()))
    yield [AppPart(unpack_app(packed)) for packed in packed_apps]
    async for batch in read_user_keys(client, partitions, _reading, _parts):
        yield batch


async def read_user_keys(
    client: Client, partitions: int, reading: Reading, parsing: Parsing[T]
) -> AsyncIterator[Sequence[T]]:
    """Read every key of every User, and yield what `parsing` makes of the replies. Raises `StoreUnavailable`."""
    metas = [keys.meta(partition) for partition in range(partitions)]
    # Compared again at the end: a slot that moved in between may be incomplete.
    before = await client.steady_owners(metas)
    masters = await client.masters()
    one = len(masters) == 1
    async for batch in _read_of(masters[0], reading, parsing) if one else _together(masters, reading, parsing):
        yield batch
    if await client.steady_owners(metas) != before:
        raise StoreUnavailable("slots were moved while the facts were read")


async def _together(masters: Sequence[Client], reading: Reading, parsing: Parsing[T]) -> AsyncIterator[Sequence[T]]:
    """Yield the batches of all masters as they arrive."""
    batches: asyncio.Queue[Sequence[T]] = asyncio.Queue(MOST_WAITING)

    async def put(master: Client) -> None:
        async for batch in _read_of(master, reading, parsing):
            await batches.put(batch)

    tasks = [asyncio.get_running_loop().create_task(put(master)) for master in masters]
    ended = asyncio.gather(*tasks)
    try:
        while not ended.done() or not batches.empty():
            # Waits for a batch or for the end of all readers, whichever comes first.
            if batches.empty():
                taking = asyncio.ensure_future(batches.get())
                await asyncio.wait(list[asyncio.Future[Any]]([ended, taking]), return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    taking.cancel()
                    continue
                yield taking.result()
            else:
                yield batches.get_nowait()
        await ended
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, ended, return_exceptions=True)


async def _read_of(server: Client, reading: Reading, parsing: Parsing[T]) -> AsyncIterator[Sequence[T]]:
    """Yield what one server has, in batches."""
    link = await server.open_dedicated()
    try:
        cursor: bytes = b"0"
        found: list[UserKey] = []
        while True:
            # The next step of the SCAN is sent with the reads of the previous one, so that the server never waits for us.
            commands = [reading(key) for key in found]
            commands.append(("SCAN", cursor, "MATCH", keys.ALL_PARTITIONS_GLOB, "COUNT", SCAN_COUNT))
            *replies, (cursor, names) = await exchange_on(link, commands)
            yield [part for key, reply in zip(found, replies, strict=True) for part in parsing(key, reply)]
            found = [key for name in names if (key := keys.parse(name))]
            if cursor == b"0":
                break
        replies = await exchange_on(link, [reading(key) for key in found])
        yield [part for key, reply in zip(found, replies, strict=True) for part in parsing(key, reply)]
    finally:
        await link.aclose()


async def exchange_on(link: Link, commands: Sequence[Command]) -> list[Reply]:
    """Send commands over a Link with the deadline of a snapshot. Raises `StoreUnavailable`."""
    if not commands:
        return []
    try:
        replies = await link.exchange(commands, SNAPSHOT_DEADLINE_MS)
    except LinkLost as loss:
        raise StoreUnavailable(str(loss)) from None
    for reply in replies:
        raise_if_error(reply)
    return replies


def _reading(key: UserKey) -> Command:
    if key.noun == "user":
        return ("HMGET", keys.user(key.partition, key.app, key.user), *FACT_FIELDS)
    word, is_ends = key.noun.removesuffix("-ends"), key.noun.endswith("-ends")
    if is_ends:
        return ("ZRANGE", keys.ends(key.partition, _KIND[word], key.app, key.user), 0, -1, "WITHSCORES")
    return ("ZRANGE", keys.entries(key.partition, _KIND[word], key.app, key.user), 0, -1)


def _parts(key: UserKey, reply: Reply) -> list[Part]:
    if not reply:
        return []  # deleted since the SCAN
    if key.noun == "user":
        return [UserPart(key.app, key.user, facts_of(reply))]
    if key.noun.endswith("-ends"):
        return list(_timed_parts(key, _KIND[key.noun.removesuffix("-ends")], reply))
    return [ListPart(key.app, _KIND[key.noun], key.user, reply, FOREVER_MS)]


def _timed_parts(key: UserKey, kind: ListKind, reply: Sequence[bytes]) -> list[ListPart]:
    by_end: dict[bytes, list[bytes]] = {}
    for member, end in zip(reply[::2], reply[1::2], strict=True):
        by_end.setdefault(end, []).append(member)
    return [ListPart(key.app, kind, key.user, members, int(end)) for end, members in by_end.items()]
