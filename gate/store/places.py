"""Pages by place: a listing over the sorted sets of all Partitions goes on behind the last entry that was seen.

A page by offset skips entries where earlier ones were taken away meanwhile, as by who lifts Bans page by page. A place stays
where it is: whatever stays in the set throughout all pages is listed exactly once. It costs the same at any depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gate.store import scripts
from gate.store.client import Client

MAX_ROWS = 10_000
"""A page; every Partition is asked for that many, as any may hold them all: some milliseconds of the server each."""


class Place(NamedTuple):
    """An entry's place: its score (a moment, ms), then its member, byte by byte."""

    score: int
    member: bytes


async def entries_behind(
    client: Client, sets: Sequence[bytes], place: Place | None, count: int, *, reverse: bool = False
) -> list[Place]:
    """The next entries of all these sets in one order, at most `count`. Raises `StoreUnavailable`."""
    score, member = ("", b"") if place is None else place
    args = ["REV" if reverse else "", score, member, min(count, MAX_ROWS)]
    found: list[Place] = []
    for reply in await client.query_each([scripts.Call(scripts.ZSET_PAGE, [key], args) for key in sets]):
        found += [Place(int(at), who) for who, at in zip(reply[::2], reply[1::2], strict=True)]
    found.sort(reverse=reverse)
    return found[:count]
