"""A Gateway played by a test: it takes a lease, opens and closes Sessions, straight through the store."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gate.core.model import AppFacts
from gate.core.presence import SESSION_RANDOM_BYTES, session_id, session_parts
from gate.core.sessions import OpenSession
from gate.presence.mover import Mover
from gate.store import presence_keys as keys
from gate.store.address import parse_address
from gate.store.apps import Apps
from gate.store.cluster import client_of
from gate.store.presence import PresenceStore, opened

PATIENCE_MS = 10_000
"""Where nothing is to be late: a busy machine must not look like a server that is away."""


class Gateway:
    """One Gateway of one App."""

    def __init__(self, store: PresenceStore, app: AppFacts, name: bytes = b"edge-1") -> None:
        self.store = store
        self.app = app
        self.name = name
        self.epoch = 0

    async def lease(self) -> Gateway:
        """Take the next epoch; Sessions of the one before end."""
        leased = await self.store.lease(self.app.key, self.name, None)
        assert leased.holds
        self.epoch = leased.epoch
        return self

    async def open(self, user: bytes, platform: str = "iOS") -> str:
        """A new Session's id."""
        (session,) = await self.open_many([user], platform)
        return session

    async def open_many(self, users: list[bytes], platform: str = "iOS") -> list[str]:
        """A new Session of each, in one pipeline."""
        ids = [session_id(os.urandom(SESSION_RANDOM_BYTES), user) for user in users]
        calls = [
            self.store.opening(OpenSession(self.app, self.name, self.epoch, user, one, platform, "", 0, "", 0))
            for user, one in zip(users, ids, strict=True)
        ]
        assert {opened(reply) for reply in await self.store.exchange(*calls)} == {"ok"}
        return ids

    async def close(self, session: str) -> None:
        """End a Session."""
        stored_id, user = session_parts(session)
        call = self.store.closing(self.app.key, self.name, self.epoch, user, stored_id, "closed")
        assert await self.store.exchange(call) == [1]


class Wanted(Apps):
    """Apps' settings, as the mover reads them: over how many slices each is to be spread. There is no store behind them."""

    def __init__(self, **slices: int) -> None:
        self.slices = slices

    async def moved_at(self) -> tuple[int, ...]:
        """Another one for each change."""
        return tuple(self.slices.values())

    async def with_presence_slices(self) -> dict[str, int]:
        """Of each App."""
        return self.slices

    async def missing(self, app_keys: Sequence[str]) -> Sequence[str]:
        """Those that are no App's."""
        return [key for key in app_keys if key not in self.slices]


async def spread(store: PresenceStore, app_key: str, slices: int) -> None:
    """Spread an App's Presence, until nothing moves any more."""
    await store.client.read(("SADD", keys.APPS, app_key))
    await Mover(Wanted(**{app_key: slices}), store).look()


def presence_on(url: str, deadline_ms: int = PATIENCE_MS) -> PresenceStore:
    """Presence in this Redis; close its `client` when done."""
    return PresenceStore(client_of(parse_address(url), deadline_ms, deadline_ms))
