"""Pages by position: a listing over the sorted sets of all Partitions continues after the last entry that was returned.

A page by offset skips entries if earlier ones are removed meanwhile, e.g. by a caller that lifts Bans page by page. A position
is stable: an entry that stays in the set throughout all pages is listed exactly once. The cost is the same at any depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gate.store import scripts
from gate.store.client import Client

# Per page. Every Partition is asked for that many, since one may hold them all: some milliseconds of the server each.
MAX_ROWS = 10_000


class Place(NamedTuple):
    """An entry's position: its score (a moment, ms), then its member, byte by byte."""

    score: int
    member: bytes


async def entries_behind(
    client: Client, sets: Sequence[bytes], place: Place | None, count: int, *, reverse: bool = False
) -> list[Place]:
    """Return the next entries of all these sets in one order, at most `count`. Raises `StoreUnavailable`."""
    score, member = ("", b"") if place is None else place
    args = ["REV" if reverse else "", score, member, min(count, MAX_ROWS)]
    found: list[Place] = []
    for reply in await client.query_each([scripts.Call(scripts.ZSET_PAGE, [key], args) for key in sets]):
        found += [Place(int(at), who) for who, at in zip(reply[::2], reply[1::2], strict=True)]
    # Each Partition returned its next entries; the first of all are the page.
    found.sort(reverse=reverse)
    return found[:count]
