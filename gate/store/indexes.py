"""Compares the indexes of Users with the facts from which they are made.

    gate:{p}:bans:<app>    a User's field b    listed by `gate bans`; the sweep ends these Bans
    gate:{p}:mutes:<app>   m                   likewise
    gate:{p}:users:<app>   r                   registered Users
    gate:{p}:gone:<app>    d                   deactivated Users

A script changes both at once, so they can differ only if Redis lost a key, as by eviction. Checks read neither, so a difference
would stay unnoticed. A difference is read again before it counts, since a write may have come between two reads. Used by
`gate replica verify`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gate.errors import StoreUnavailable
from gate.store import keys
from gate.store.client import Client
from gate.store.link import Command, Link, LinkLost, Reply, raise_if_error

SCAN_COUNT = 1_000
LOOKED_AT_A_STEP = 1_000
STEP_DEADLINE_MS = 10_000
MORE_LOOKS = 2
LOOK_AGAIN_S = 0.1
MAX_SHOWN = 20


class Entry(NamedTuple):
    """One User in one index."""

    partition: int
    noun: str
    app: str
    user: bytes


class IndexDifference(NamedTuple):
    """An entry that differs: its moment in the User's facts and in the index, ms; None if it is missing."""

    app: str
    noun: str
    user: bytes
    in_facts: int | None
    in_index: int | None


class IndexReport(NamedTuple):
    """Number of entries compared, number of differences, and the first of those."""

    entries: int
    differences: int
    first: tuple[IndexDifference, ...]


async def compare_indexes(client: Client) -> IndexReport:
    """Compare all indexes, over a separate connection to each server. Raises `StoreUnavailable`."""
    reports: list[IndexReport] = []
    for server in await client.masters():
        link = await server.open_dedicated()
        try:
            reports.append(await _Comparison(link).run())
        except LinkLost as loss:
            raise StoreUnavailable(str(loss)) from None
        finally:
            await link.aclose()
    first = tuple(difference for report in reports for difference in report.first)[:MAX_SHOWN]
    return IndexReport(sum(one.entries for one in reports), sum(one.differences for one in reports), first)


class _Comparison:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._entries = 0
        # A dict as an ordered set: the same entry is found from both sides.
        self._doubtful: dict[Entry, None] = {}

    async def run(self) -> IndexReport:
        cursor: Reply = b"0"
        while True:
            ((cursor, names),) = await self._ask(
                [("SCAN", cursor, "MATCH", keys.ALL_PARTITIONS_GLOB, "COUNT", SCAN_COUNT)]
            )
            await self._look_at_users([key for name in names if (key := keys.parse(name)) and key.noun == "user"])
            for name in names:
                if index := keys.parse_index(name):
                    await self._look_at_index(name, *index)
            if cursor == b"0":
                break
        return await self._settled()

    async def _settled(self) -> IndexReport:
        """Read the differences again some times, and report those that remain."""
        # A real difference stays, a concurrent write does not.
        for _ in range(MORE_LOOKS if self._doubtful else 0):
            await asyncio.sleep(LOOK_AGAIN_S)
            doubtful, self._doubtful = self._doubtful, {}
            await self._compare(doubtful)
        first = await self._differing(list(self._doubtful)[:MAX_SHOWN])
        shown = tuple(IndexDifference(entry.app, entry.noun, entry.user, *moments) for entry, *moments in first)
        return IndexReport(self._entries, len(self._doubtful), shown)

    async def _look_at_users(self, users: Sequence[keys.UserKey]) -> None:
        """Compare the facts of Users that must be in an index."""
        fields = list(keys.INDEXED_FIELDS.items())
        wanted = [field for _, field in fields]
        asked: list[Command] = [("HMGET", keys.user(each.partition, each.app, each.user), *wanted) for each in users]
        entries = [
            Entry(one.partition, noun, one.app, one.user)
            for one, values in zip(users, await self._ask(asked), strict=True)
            for (noun, _), value in zip(fields, values, strict=True)
            if value
        ]
        self._entries += len(entries)
        await self._compare(entries)

    async def _look_at_index(self, name: bytes, partition: int, noun: str, app: str) -> None:
        """Compare an index's entries with facts. They were counted with the facts already."""
        cursor: Reply = b"0"
        while True:
            ((cursor, flat),) = await self._ask([("ZSCAN", name, cursor, "COUNT", LOOKED_AT_A_STEP)])
            await self._compare(Entry(partition, noun, app, user) for user in flat[::2])
            if cursor == b"0":
                return

    async def _compare(self, entries: Iterable[Entry]) -> None:
        all_of_them = list(entries)
        for start in range(0, len(all_of_them), LOOKED_AT_A_STEP):
            differing = await self._differing(all_of_them[start : start + LOOKED_AT_A_STEP])
            self._doubtful.update((entry, None) for entry, *_ in differing)

    async def _differing(self, entries: Sequence[Entry]) -> list[tuple[Entry, int | None, int | None]]:
        """Return the entries whose moments differ now, with both moments."""
        commands: list[Command] = []
        for partition, noun, app, user in entries:
            commands.append(("HGET", keys.user(partition, app, user), keys.INDEXED_FIELDS[noun]))
            commands.append(("ZSCORE", keys.index(partition, noun, app), user))
        replies = await self._ask(commands)
        moments = ((_moment(fact), _moment(entry)) for fact, entry in zip(replies[::2], replies[1::2], strict=True))
        return [(entry, *pair) for entry, pair in zip(entries, moments, strict=True) if pair[0] != pair[1]]

    async def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        replies = await self._link.exchange(commands, STEP_DEADLINE_MS)
        for reply in replies:
            raise_if_error(reply)
        return replies


def _moment(text: bytes | None) -> int | None:
    """Parse a field or a score. An empty field is a past registration, which is in no index."""
    return int(float(text)) if text else None
