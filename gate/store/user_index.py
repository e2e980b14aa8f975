"""The index of an App's registered Users in the order of their registration, by page number at any depth.

Each Partition has its own index, so page n of all needs a position in each of them. Near the beginning it is found by reading
from there; farther in, by a binary search over moments that asks each Partition for the number of earlier Users. Equal moments
(an import has one for all) are ordered by Partition, then by id: any order is correct if it is the same on every page.
"""

from __future__ import annotations

from collections.abc import Sequence

from gate.store import keys
from gate.store.client import Client
from gate.store.link import Command

# Smaller offsets are read through; a search would take some forty round trips.
NEAR_ROWS = 1_000

# A User, and its moment of registration, ms.
Row = tuple[bytes, int]


class UserIndex:
    """One App's registered Users, oldest first or newest first. Every method may raise `StoreUnavailable`."""

    def __init__(self, client: Client, partitions: int, app_key: str, *, newest_first: bool = False) -> None:
        self._client = client
        self._indexes = [keys.users(partition, app_key) for partition in range(partitions)]
        self._newest_first = newest_first
        self._order = ("REV",) if newest_first else ()

    async def count(self) -> int:
        """Return the number of registered Users."""
        return sum(await self._client.read(*(("ZCARD", index) for index in self._indexes)))

    async def page(self, offset: int, count: int) -> list[Row]:
        """Return `count` Users after the first `offset`; fewer at the end."""
        # Near the beginning every Partition is read from 0 and the offset is skipped here.
        starts, skipped = ([0] * len(self._indexes), offset) if offset <= NEAR_ROWS else (await self._starts(offset), 0)
        asked: list[Command] = [
            ("ZRANGE", index, start, start + skipped + count - 1, *self._order, "WITHSCORES")
            for index, start in zip(self._indexes, starts, strict=True)
        ]
        rows = [
            (int(score), partition, user)
            for partition, reply in enumerate(await self._client.read(*asked))
            for user, score in zip(reply[::2], reply[1::2], strict=True)
        ]
        rows.sort(reverse=self._newest_first)
        return [(user, at_ms) for at_ms, _, user in rows[skipped : skipped + count]]

    async def _starts(self, offset: int) -> list[int]:
        """Return how many Users of each Partition are among the first `offset`."""
        moment = await self._moment_at(offset)
        before, ties = await self._before(moment), await self._counted(moment, moment)
        # Users of the moment at the boundary are taken in order of Partitions.
        left = offset - sum(before)
        starts = [0] * len(before)
        for partition in range(len(before))[:: -1 if self._newest_first else 1]:
            # In order of Partitions, which is the order of `rows` too.
            taken = min(left, ties[partition])
            starts[partition] = before[partition] + taken
            left -= taken
        return starts

    async def _moment_at(self, offset: int) -> int:
        """Return the moment of the User after the first `offset`; the last moment of all if there are not so many."""
        low, high = await self._span()
        while low < high:
            # Rounded towards the end that stays in the interval, so that it shrinks in every step.
            middle = (low + high + 1) // 2 if self._newest_first else (low + high) // 2
            if sum(await self._until(middle)) > offset:
                low, high = (middle, high) if self._newest_first else (low, middle)
            elif self._newest_first:
                high = middle - 1
            else:
                low = middle + 1
        return low

    async def _span(self) -> tuple[int, int]:
        ends: list[Command] = [("ZRANGE", index, at, at, "WITHSCORES") for index in self._indexes for at in (0, -1)]
        moments = [int(reply[1]) for reply in await self._client.read(*ends) if reply]
        return min(moments, default=0), max(moments, default=0)

    async def _before(self, moment: int) -> Sequence[int]:
        low, high = (f"({moment}", "+inf") if self._newest_first else ("-inf", f"({moment}")
        return await self._counted(low, high)

    async def _until(self, moment: int) -> Sequence[int]:
        low, high = (moment, "+inf") if self._newest_first else ("-inf", moment)
        return await self._counted(low, high)

    async def _counted(self, low: str | int, high: str | int) -> Sequence[int]:
        return await self._client.read(*(("ZCOUNT", index, low, high) for index in self._indexes))
