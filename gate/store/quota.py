"""How many Users an App may have: a set of reserved places in Partition 0, so that the limit is exact under any concurrency.

A place is reserved before its User is registered in a Partition of its own. A registration that failed in between keeps its
place; the same call made again uses it, and once the App seems full, places without a User go back to whoever asks. They go
back once they are too old by every clock, those of all nodes and the server's: one that is wrong frees none that is under way.

Only Apps with a limit reserve. Users that an App got while it had none are given places when it first asks again.
"""

from __future__ import annotations

from collections.abc import Sequence

from gate.core.model import FOREVER_MS, AppFacts
from gate.errors import UserLimitReached
from gate.store import keys, scripts
from gate.store.clocks import look_at_clocks
from gate.store.link import Command
from gate.store.scripts import Call
from gate.store.writer import Writer

UNDER_WAY_MS = 60_000
"""A place without a User may belong to a registration under way; none takes this long by any clock."""
IDS_A_SCRIPT = 1_000


class Quota:
    """Reserves and releases places. Every method raises `StoreUnavailable`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def reserve(self, app: AppFacts, user: bytes, now_ms: int) -> None:
        """Make sure that a User may be registered. Raises `UserLimitReached`."""
        if await self.reserve_all(app, [user], now_ms):
            assert app.most_users is not None, "an App without a limit refuses nobody"
            raise UserLimitReached(app.most_users)

    async def reserve_all(self, app: AppFacts, users: Sequence[bytes], now_ms: int) -> list[bytes]:
        """Reserve a place for each of these Users; the ones that found none."""
        limit = app.most_users
        if limit is None or not users:
            return []
        places, registered = await self._counts(app.key)
        if places < registered:
            await self._give_places(app.key, limit, now_ms)
        refused = await self._try(app.key, users, limit, now_ms)
        if refused and registered < limit and await self._take_back(app.key, now_ms):
            refused = await self._try(app.key, refused, limit, now_ms)
        return refused

    async def release(self, app_key: str, users: Sequence[bytes], until_ms: int = FOREVER_MS) -> int:
        """Give the places of these Users back, where they were reserved at or before a moment; answers how many."""
        released = 0
        for first in range(0, len(users), IDS_A_SCRIPT):
            call = Call(scripts.QUOTA_RELEASE, [keys.quota(app_key)], [until_ms, *users[first : first + IDS_A_SCRIPT]])
            released += (await self._writer.client.write([call]))[0]
        return released

    async def release_unused(self, app_key: str, users: Sequence[bytes], until_ms: int = FOREVER_MS) -> int:
        """Give back the places of those of these Users that are not registered; answers how many."""
        asked: list[Command] = [
            ("HEXISTS", keys.user(self._writer.partition_of(app_key, user), app_key, user), keys.REGISTERED_AT)
            for user in users
        ]
        came = await self._writer.client.read(*asked) if asked else []
        unused = [user for user, is_there in zip(users, came, strict=True) if not is_there]
        return await self.release(app_key, unused, until_ms)

    async def _try(self, app_key: str, users: Sequence[bytes], limit: int, now_ms: int) -> list[bytes]:
        calls = [
            Call(scripts.QUOTA_RESERVE, [keys.quota(app_key)], [limit, now_ms, *users[first : first + IDS_A_SCRIPT]])
            for first in range(0, len(users), IDS_A_SCRIPT)
        ]
        return [user for refused in await self._writer.client.write(calls) for user in refused]

    async def _counts(self, app_key: str) -> tuple[int, int]:
        """Places, and registered Users; in this order, so that one who registers meanwhile is not missed among the places."""
        registered = [("ZCARD", keys.users(partition, app_key)) for partition in range(self._writer.partitions)]
        places, *counts = await self._writer.client.read(("ZCARD", keys.quota(app_key)), *registered)
        return places, sum(counts)

    async def _give_places(self, app_key: str, limit: int, now_ms: int) -> None:
        asked = [
            ("ZRANGE", keys.users(partition, app_key), 0, limit - 1) for partition in range(self._writer.partitions)
        ]
        users = [user for found in await self._writer.client.read(*asked) for user in found] if limit else []
        await self._try(app_key, users, limit, now_ms)

    async def _take_back(self, app_key: str, now_ms: int) -> int:
        """Release the places that no User came to."""
        clocks = await look_at_clocks(self._writer.client, lambda: now_ms)
        long_ago_ms = clocks.earliest_ms - UNDER_WAY_MS
        (held,) = await self._writer.client.read(("ZRANGEBYSCORE", keys.quota(app_key), "-inf", long_ago_ms))
        return await self.release_unused(app_key, held, long_ago_ms)
