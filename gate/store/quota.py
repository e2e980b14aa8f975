"""The limit of an App's Users: a set of reserved places in Partition 0, so that the limit is exact under any concurrency.

A place is reserved before its User is registered in the User's Partition. A registration that fails in between keeps its
place; the repeated call uses it. Once the App seems full, places without a User are released, if they are too old by every
clock, those of all nodes and the server's. So a wrong clock releases no place of a registration in progress.

Only Apps with a limit reserve. Users that were registered while the App had no limit get places when it first reserves again.
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

# A place without a User may belong to a registration in progress; none takes this long by any clock.
UNDER_WAY_MS = 60_000
IDS_A_SCRIPT = 1_000


class Quota:
    """Reserves and releases places. Every method may raise `StoreUnavailable`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def reserve(self, app: AppFacts, user: bytes, now_ms: int) -> None:
        """Reserve a place for a User. Raises `UserLimitReached`."""
        if await self.reserve_all(app, [user], now_ms):
            assert app.most_users is not None, "an App without a limit refuses no User"
            raise UserLimitReached(app.most_users)

    async def reserve_all(self, app: AppFacts, users: Sequence[bytes], now_ms: int) -> list[bytes]:
        """Reserve a place for each of these Users. Returns those for which there was none."""
        limit = app.most_users
        if limit is None or not users:
            return []
        places, registered = await self._counts(app.key)
        # Users were registered while the App had no limit.
        if places < registered:
            await self._give_places(app.key, limit, now_ms)
        refused = await self._try(app.key, users, limit, now_ms)
        # Only if some places must be unused.
        if refused and registered < limit and await self._take_back(app.key, now_ms):
            refused = await self._try(app.key, refused, limit, now_ms)
        return refused

    async def release(self, app_key: str, users: Sequence[bytes], until_ms: int = FOREVER_MS) -> int:
        """Release these Users' places that were reserved at or before a moment. Returns their number."""
        released = 0
        for first in range(0, len(users), IDS_A_SCRIPT):
            call = Call(scripts.QUOTA_RELEASE, [keys.quota(app_key)], [until_ms, *users[first : first + IDS_A_SCRIPT]])
            released += (await self._writer.client.write([call]))[0]
        return released

    async def release_unused(self, app_key: str, users: Sequence[bytes], until_ms: int = FOREVER_MS) -> int:
        """Release the places of those of these Users that are not registered. Returns their number."""
        asked: list[Command] = [
            ("HEXISTS", keys.user(self._writer.partition_of(app_key, user), app_key, user), keys.REGISTERED_AT)
            for user in users
        ]
        registered = await self._writer.client.read(*asked) if asked else []
        unused = [user for user, is_registered in zip(users, registered, strict=True) if not is_registered]
        return await self.release(app_key, unused, until_ms)

    async def _try(self, app_key: str, users: Sequence[bytes], limit: int, now_ms: int) -> list[bytes]:
        calls = [
            Call(scripts.QUOTA_RESERVE, [keys.quota(app_key)], [limit, now_ms, *users[first : first + IDS_A_SCRIPT]])
            for first in range(0, len(users), IDS_A_SCRIPT)
        ]
        return [user for refused in await self._writer.client.write(calls) for user in refused]

    async def _counts(self, app_key: str) -> tuple[int, int]:
        """Return the numbers of places and of registered Users. Places first, so a concurrent registration is not missed."""
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
        """Release old places without a User. Returns their number."""
        # By the slowest clock, so no place of a registration in progress is old enough.
        clocks = await look_at_clocks(self._writer.client, lambda: now_ms)
        long_ago_ms = clocks.earliest_ms - UNDER_WAY_MS
        (held,) = await self._writer.client.read(("ZRANGEBYSCORE", keys.quota(app_key), "-inf", long_ago_ms))
        return await self.release_unused(app_key, held, long_ago_ms)
