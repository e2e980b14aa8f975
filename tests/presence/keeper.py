"""A session service on a real server, and a Replica that knows who is banned."""

from __future__ import annotations

from typing import cast

from gate.core.model import AppFacts
from gate.core.presence import Verified
from gate.core.sessions import OpenSession
from gate.core.token import is_same_app
from gate.errors import TokenRefused
from gate.presence.gateway import Gateway
from gate.presence.session_service import SessionService
from gate.replica.authorization import Admission
from gate.replica.reading import Reading
from gate.store.address import parse_address
from gate.store.cluster import client_of
from gate.store.presence import PresenceStore
from tests.presence.played import PATIENCE_MS

APP = AppFacts(key="app", secrets=("s",))
EDGE = b"edge"
TTL_MS = 60_000
DEADLINE_MS = 300


class Banning(Admission):
    """A Replica that knows who is banned."""

    def __init__(self) -> None:
        super().__init__(lambda: cast(Reading, None))
        self.banned: set[bytes] = set()
        self.app = APP

    def authorize_stay(self, session: OpenSession) -> Verified:
        if not is_same_app(self.app, session.app):
            raise TokenRefused("app-unknown", "the App was removed")
        if session.user in self.banned:
            raise TokenRefused("user-banned", "the User is banned", 0)
        return Verified(self.app, session.user, session.minted_at_ms, "0", 0)


class Keeper:
    """A session service on such a Replica."""

    gateway: Gateway

    def __init__(self, url: str, deadline_ms: int = PATIENCE_MS, lease_ttl_ms: int = TTL_MS) -> None:
        self.store = PresenceStore(client_of(parse_address(url), deadline_ms, deadline_ms))
        self.facts = Banning()
        self.service = SessionService(self.store, lease_ttl_ms, self.facts)

    def verified(self, user: bytes) -> Verified:
        return Verified(self.facts.app, user, 1, "0", 0)

    async def lease(self, epoch: int = 1) -> None:
        self.gateway = await self.service.lease(APP.key, EDGE, epoch)
        assert self.gateway.holds

    async def open(self, user: bytes) -> str:
        session = self.gateway.new_session(self.verified(user), "iOS", "")
        assert await self.gateway.open(session).wait() == "ok"
        return session.id

    async def close(self, session: str) -> None:
        assert await self.gateway.close(session, "closed").wait() == "closed"

    async def online(self, *users: bytes) -> list[bool]:
        return await self.store.online(APP.key, users)

    async def aclose(self) -> None:
        await self.service.aclose()
        await self.store.client.aclose()
