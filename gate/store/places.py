"""Pages by position: a listing over the sorted sets of all Partitions continues after the last entry that was returned.

A page by offset skips entries if earlier ones are removed meanwhile, e.g. by a caller that lifts Bans page by page. A position
is stable: an entry that stays in the set throughout all pages is listed exactly once. The cost is the same at any depth.

A page also needs fields of its Users' facts, which `fields_of` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from math import ceil, sqrt
from typing import NamedTuple
from zlib import crc32

from gate.core.revision import app_crc
from gate.store import keys, scripts
from gate.store.client import Client
from gate.store.link import Command, Reply
from gate.store.writer import Writer

# Offset plus count of one page: if one Partition holds them all, they are some tens of milliseconds of the server.
MAX_PAGE_DEPTH = 100_000

# A score and a member: a `Place`, without the cost of one for each row that is sorted.
Row = tuple[int, bytes]


class Place(NamedTuple):
    """An entry's position: its score (a moment, ms), then its member, byte by byte."""

    score: int
    member: bytes


async def entries_behind(
    client: Client, sets: Sequence[bytes], place: Place | None, count: int, *, offset: int = 0, reverse: bool = False
) -> list[Row]:
    """Return at most `count` of the next entries of all these sets in one order, without the first `offset` of them.

    Raises `StoreUnavailable`.
    """
    most = min(offset + count, MAX_PAGE_DEPTH)
    limits = dict.fromkeys(sets, _likely_share(most, len(sets)))
    read: dict[bytes, list[Row]] = {}
    found: list[Row] = []
    unread = list(sets)
    while unread:
        replies = await _pages(client, place, {key: limits[key] for key in unread}, reverse)
        for key, reply in zip(unread, replies, strict=True):
            read[key] = list(zip(map(int, reply[1::2]), reply[::2], strict=True))
        found = sorted(chain.from_iterable(read.values()), reverse=reverse)[:most]
        end = found[-1] if len(found) == most else None
        # A set that gave all it was asked for may have more before the page's end. It is read again from the start: what one
        # command returns is of one moment, so an entry that moves in between is not listed twice. All sets are compared again,
        # as the end is farther if entries were removed meanwhile. A set that was asked for `most` always suffices.
        unread = [
            key
            for key, rows in read.items()
            if len(rows) == limits[key] < most and (end is None or (rows[-1] > end if reverse else rows[-1] < end))
        ]
        limits |= dict.fromkeys(unread, most)
    return found[offset:]


async def _pages(client: Client, place: Place | None, limits: Mapping[bytes, int], reverse: bool) -> Sequence[Reply]:
    if place is None:
        # From the beginning no rank is looked for, and a command costs the server a fifth of a script.
        command = "ZREVRANGE" if reverse else "ZRANGE"
        return await client.read(*((command, key, 0, limit - 1, "WITHSCORES") for key, limit in limits.items()))
    order, (score, member) = "REV" if reverse else "", place
    return await client.query_each(
        [scripts.Call(scripts.ZSET_PAGE, [key], [order, score, member, limit]) for key, limit in limits.items()]
    )


def _likely_share(most: int, sets: int) -> int:
    """How many of the first `most` entries one of the sets has. A hash spreads ids, so more than this is rare."""
    mean = most / sets
    # Four deviations: one page in some thousands reads a set again. Asking each for `most` would cost `sets` times the rows.
    return min(most, ceil(mean + 4 * sqrt(mean)) + 2)


async def fields_of(writer: Writer, app_key: str, users: Sequence[bytes], *fields: bytes) -> list[Reply]:
    """Return these fields of each User's facts, None for one that is not set. Raises `StoreUnavailable`."""
    crc, partitions = app_crc(app_key), writer.partitions
    prefixes = [keys.facts_prefix(partition, app_key) for partition in range(partitions)]
    # As `partition_of` and `keys.user`, without two calls for each of a thousand. One script a Partition would spare a command
    # for each, and cost the server twice as much.
    asked: list[Command] = [("HMGET", prefixes[crc32(user, crc) % partitions] + user, *fields) for user in users]
    return await writer.client.read(*asked) if asked else []
