"""The session service: leases are taken, Sessions opened, closed and brought back through it. One a process.

A caller that opens a Session has verified its Token on a Replica, and names the last Change that the Replica had applied
(`Verified`). The script that opens the Session compares that with the Change for which the User's Sessions were last closed. If
the Replica had not applied that one, the outcome is `BARRED`, and the caller verifies again once its Replica has moved. So no
connect overtakes a Ban.

Called by the RESP port's presence commands, by way of its Protocols, and by `local_gateway` for this node's own clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import islice

import structlog

from gate.core.presence import LEASE_KEPT_MS, CloseReason, Cursor, Event, UserPresence, session_parts
from gate.core.sessions import GatewayKey
from gate.errors import StoreUnavailable, Unavailable
from gate.presence.gateway import MAX_CALLS_A_BATCH, MAX_UNDER_WAY, Batches, Gateway, IdPool, PendingResult
from gate.presence.session_recovery import look_over, recover
from gate.presence.shared_feeds import SharedFeeds
from gate.replica.authorization import Admission
from gate.store.feed import Feed
from gate.store.presence import PresenceStore
from gate.store.presence_forms import presences_of

# Redis may not know the lease of a Gateway that was silent for so long for no other reason than its age.
FORGOTTEN_MS = LEASE_KEPT_MS // 2
# How long a close that Redis did not answer waits for the next try.
CLOSE_AGAIN_S = 0.25
# How long ending this process waits for closes that no other process would carry out.
CLOSING_LASTS_S = 1.0

_log = structlog.get_logger()


class SessionService:
    """Everything that a process asks of Presence. Calls raise `StoreUnavailable`."""

    def __init__(
        self, store: PresenceStore, lease_ttl_ms: int, admission: Admission, most_under_way: int = MAX_UNDER_WAY
    ) -> None:
        self.store = store
        self.admission = admission
        self.lease_ttl_ms = lease_ttl_ms
        self.batches = Batches(store.slices, most_under_way)
        self.ids = IdPool()
        self.gateways: dict[GatewayKey, Gateway] = {}
        """Those whose lease was taken through this process, each under its present epoch."""
        self._feeds = SharedFeeds(store.client)
        self.leaving: dict[Gateway, asyncio.TimerHandle] = {}
        self._abandoned: dict[str, tuple[Gateway, CloseReason]] = {}
        self._closing: asyncio.Task[None] | None = None
        self.looking: dict[GatewayKey, asyncio.Task[None]] = {}

    @property
    def session_count(self) -> int:
        """How many Sessions would be brought back."""
        return sum(len(gateway.sessions) for gateway in self.gateways.values())

    # Leases

    async def lease(self, app_key: str, name: bytes, epoch: int | None) -> Gateway:
        """Take or renew a lease. What Redis lost of the Sessions opened here under it is brought back first.

        Where the lease is refused, the answer is a `Gateway` that does not hold, with the epoch that counts.
        """
        key = app_key, name
        known = self.gateways.get(key)
        silent_ms = known.silent_ms() if known is not None and known.epoch == epoch else 0
        try:
            leased = await self.store.lease(app_key, name, epoch)
        except StoreUnavailable:
            self.mark_uncertain(key)  # if it was lost and taken again just now, no later reply says so
            raise
        # Looked up again: while Redis was asked, another connection may have taken a higher epoch.
        known = self.gateways.get(key)
        if known is not None and known.epoch != leased.epoch:
            known = None
        if leased.is_new and silent_ms >= FORGOTTEN_MS:
            # It ended long ago, and Redis does not remember that any more: what was open under it stays closed.
            if known is not None:
                known.forget_all()
            return Gateway(self, key, leased.epoch, holds=False)
        if not leased.holds:
            return Gateway(self, key, leased.epoch, holds=False)
        server_id = self.store.client.server_id
        if known is None:
            known = Gateway(self, key, leased.epoch)
        elif leased.is_new or known.server_id != server_id:
            # Empty until that is done: if it fails, the next renewal begins again.
            known.server_id = ""
            await recover(self.store, known, self.admission)
        known.server_id = server_id
        self.gateways[key] = known
        if going := self.leaving.pop(known, None):
            going.cancel()
        return known

    def mark_uncertain(self, key: GatewayKey) -> None:
        """The lease may have been lost and taken again: the next renewal brings back what was open under it."""
        if known := self.gateways.get(key):
            known.server_id = ""

    def look_over(self, gateway: Gateway) -> None:
        """Begin to forget what others closed of this Gateway's Sessions, unless that is under way."""
        if gateway.key not in self.looking:
            looking = asyncio.get_running_loop().create_task(self._look_over(gateway))
            self.looking[gateway.key] = looking

    def let_go(self, gateway: Gateway) -> None:
        """This process no longer renews the lease. A Gateway that is back within a lease finds its Sessions remembered."""
        if going := self.leaving.pop(gateway, None):
            going.cancel()
        loop = asyncio.get_running_loop()
        self.leaving[gateway] = loop.call_later(self.lease_ttl_ms / 1_000, self._gone, gateway)

    # Sessions

    def abandon(self, gateway: Gateway, session_id: str, why: CloseReason) -> None:
        """Close a Session that has no client, as soon as Redis is reachable."""
        self._abandoned[session_id] = gateway, why
        if self._closing is None or self._closing.done():
            self._closing = asyncio.get_running_loop().create_task(self._close_abandoned())

    def forget(self, key: GatewayKey, session_id: str) -> None:
        """A Session was kicked: it is not brought back."""
        if gateway := self.gateways.get(key):
            gateway.forget(session_id)

    def touch(self, app_key: str, sessions: Sequence[str]) -> PendingResult[int]:
        """Note that these Sessions were active just now; gives how many there are."""
        parts = [session_parts(one) for one in sessions]
        return self.batches.submit(self.store.touching(app_key, [(user, stored) for stored, user in parts]), sum)

    # Reads, behind everything submitted before

    def online(self, app_key: str, users: Sequence[bytes]) -> PendingResult[list[bool]]:
        """Which of up to `MAX_USERS_A_SCRIPT` Users have a live Session."""
        call = self.store.asking_online(app_key, users)
        return self.batches.submit(call, lambda reply: [one == 1 for one in reply], asks_only=True)

    def presences(self, app_key: str, users: Sequence[bytes]) -> PendingResult[list[UserPresence]]:
        """The live Sessions of up to `MAX_USERS_A_SCRIPT` Users."""
        call = self.store.asking_sessions(app_key, users)
        return self.batches.submit(call, lambda reply: presences_of(users, reply), asks_only=True)

    def feed(self, app_key: str) -> Feed:
        """What changes in an App; `aclose` it."""
        return Feed(self.store.client, app_key)

    def follow(self, app_key: str, after: Cursor) -> AsyncGenerator[Sequence[Event], None]:
        """What happens behind a cursor, without end: all followers of an App share one blocking read."""
        return self._feeds.follow(app_key, after)

    async def aclose(self) -> None:
        """Wait for calls under way, and `CLOSING_LASTS_S` for closes that Redis does not answer."""
        await self._feeds.aclose()
        for going in self.leaving.values():
            going.cancel()
        if self._closing is not None:
            await asyncio.wait([self._closing], timeout=CLOSING_LASTS_S)
            self._closing.cancel()
        for looking in list(self.looking.values()):
            looking.cancel()
            await asyncio.wait([looking])
        await self.batches.aclose()

    async def _look_over(self, gateway: Gateway) -> None:
        try:
            await look_over(self.store, gateway)
        except StoreUnavailable as away:
            _log.debug("Sessions that others closed are looked for later", problem=str(away))
        finally:
            del self.looking[gateway.key]

    def _gone(self, gateway: Gateway) -> None:
        del self.leaving[gateway]
        if self.gateways.get(gateway.key) is gateway:
            del self.gateways[gateway.key]

    async def _close_abandoned(self) -> None:
        while self._abandoned:
            # As many as one pipeline takes.
            some = list(islice(self._abandoned.items(), MAX_CALLS_A_BATCH))
            try:
                closing = [gateway.close(session_id, why) for session_id, (gateway, why) in some]
                for (session_id, _), pending in zip(some, closing, strict=True):
                    await pending.wait()
                    del self._abandoned[session_id]
            except Unavailable:
                await asyncio.sleep(CLOSE_AGAIN_S)
