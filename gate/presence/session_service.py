"""The session service: leases are taken, Sessions opened, closed and brought back through it. One a process.

Whoever opens a Session has verified its Token on a Replica, and says up to which Change (`Verified`). The script that opens it
compares that with the Change for which the User's Sessions were last closed: if the Replica had not seen it, the answer is
`barred`, and the caller verifies again once its Replica has moved. So a Ban can't be overtaken by a connect.

Called by the RESP port's presence commands, by way of its Protocols, and by `app_lease` for this node's own clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import islice

import msgspec
import structlog

from gate.clock import wall_ms
from gate.core.presence import (
    LEASE_KEPT_MS,
    SESSION_RANDOM_BYTES,
    Cursor,
    Event,
    UserPresence,
    Verified,
    session_id,
    session_parts,
)
from gate.errors import StoreUnavailable, Unavailable
from gate.presence.batches import MAX_CALLS_A_BATCH, MAX_UNDER_WAY, Batches, PendingResult
from gate.presence.id_pool import IdPool
from gate.presence.registry import GatewayKey, OpenSession, Registry
from gate.presence.session_recovery import Reverify, look_over, opening_of, restore
from gate.presence.shared_feeds import SharedFeeds
from gate.store.feed import Feed
from gate.store.link import Reply
from gate.store.presence import Closed, Leased, Opened, PresenceStore, closed, opened
from gate.store.presence_forms import presences_of

UNSURE = ""
"""In place of the server's name: what was done there may be lost."""
FORGOTTEN_MS = LEASE_KEPT_MS // 2
"""A Gateway that was silent for so long may find its lease unknown for no other reason than its age."""
CLOSE_AGAIN_S = 0.25
"""How long a close that Redis did not answer waits for the next try."""
CLOSING_LASTS_S = 1.0
"""How long ending this process waits for closes that nobody else would carry out."""


_log = structlog.get_logger()


class PendingSession(msgspec.Struct, frozen=True):
    """A Session being opened: its id, and what comes of it."""

    session: str
    pending: PendingResult[Opened]


class SessionService:
    """Everything that a process asks of Presence. Calls raise `StoreUnavailable`."""

    def __init__(self, store: PresenceStore, lease_ttl_ms: int, most_under_way: int = MAX_UNDER_WAY) -> None:
        self.store = store
        self.lease_ttl_ms = lease_ttl_ms
        self.batches = Batches(store.slices, most_under_way)
        self._feeds = SharedFeeds(store.client)
        self._registry = Registry()
        self._randomness = IdPool(SESSION_RANDOM_BYTES)
        self._server_ids: dict[GatewayKey, str] = {}
        self._going: dict[tuple[GatewayKey, int], asyncio.TimerHandle] = {}
        self._abandoned: dict[str, tuple[str, bytes, int]] = {}
        self._closing: asyncio.Task[None] | None = None
        self._looking: dict[GatewayKey, asyncio.Task[None]] = {}

    # Leases

    async def lease(self, app_key: str, gateway: bytes, epoch: int | None, may_connect: Reverify) -> Leased:
        """Take or renew a lease. What Redis lost of the Sessions opened here under it is brought back first."""
        held = app_key, gateway
        silent_ms = 0 if epoch is None else self._registry.asked_for(held, epoch)
        try:
            leased = await self.store.lease(app_key, gateway, epoch)
        except StoreUnavailable:
            self._doubt(held)  # that it was lost, and taken anew just now, would not be told a second time
            raise
        if leased.is_new and silent_ms >= FORGOTTEN_MS:
            # It ended long ago, and Redis does not remember that any more: what was open under it stays closed.
            self._registry.let_go(held, leased.epoch)
            return leased._replace(holds=False)
        if not leased.holds:
            return leased
        server_id = self.store.client.server_id
        if leased.is_new or self._server_ids.get(held, server_id) != server_id:
            self._doubt(held)
            await restore(self.store, self._registry, held, leased.epoch, may_connect)
        self._server_ids[held] = server_id
        self._registry.lease(held, leased.epoch)
        if going := self._going.pop((held, leased.epoch), None):
            going.cancel()
        return leased

    def doubt(self, app_key: str, gateway: bytes) -> None:
        """The lease was lost, and taken again past this service: the next renewal brings back what was open under it."""
        self._doubt((app_key, gateway))

    def look_over(self, app_key: str, gateway: bytes, epoch: int) -> None:
        """Begin to forget what others closed of a Gateway that need not tell us of kicks. Call it with each renewal."""
        held = app_key, gateway
        if held not in self._looking:
            self._looking[held] = asyncio.get_running_loop().create_task(self._look_over(held, epoch))

    def let_go(self, app_key: str, gateway: bytes, epoch: int) -> None:
        """Nobody renews this lease through here any more. A Gateway that is back in time finds its Sessions remembered."""
        whole = (app_key, gateway), epoch
        if going := self._going.pop(whole, None):
            going.cancel()
        self._going[whole] = asyncio.get_running_loop().call_later(self.lease_ttl_ms / 1_000, self._gone, whole)

    # Sessions

    def open(self, by: Verified, gateway: bytes, epoch: int, platform: str, ip: str) -> PendingSession:
        """Open a Session. Where the pending says anything but `ok`, there is none."""
        session = session_id(self._randomness.next(), by.user)
        stored_id = session.partition(".")[0]
        kept = OpenSession(by.app, by.user, stored_id, platform, ip, by.minted_at_ms, wall_ms())
        return PendingSession(session, self._opening(by, gateway, epoch, kept, None))

    def open_again(self, by: Verified, gateway: bytes, epoch: int, kept: OpenSession) -> PendingResult[Opened]:
        """Open a Session that was open before, under a later lease, with the id that it had."""
        return self._opening(by, gateway, epoch, kept, kept.since_ms)

    def remembers(self, app_key: str, gateway: bytes, session: str) -> bool:
        """Whether this Session was opened here under the present lease, and neither closed nor lost since."""
        stored_id, user = session_parts(session)
        return self._registry.has((app_key, gateway), user, stored_id)

    def close(self, app_key: str, gateway: bytes, epoch: int, session: str, why: str) -> PendingResult[Closed]:
        """Close a Session of this Gateway. Raises `InvalidInput` for what is no Session's id."""
        stored_id, user = session_parts(session)
        held = app_key, gateway
        self._registry.drop(held, user, stored_id)

        def read(reply: Reply) -> Closed:
            word = closed(reply)
            if word == "closed":
                self._registry.note_closed(held, epoch, user, stored_id)
            return word

        return self.batches.submit(self.store.closing(app_key, gateway, epoch, user, stored_id, why), read)

    def abandon(self, app_key: str, gateway: bytes, epoch: int, session: str) -> None:
        """Nobody knows of this Session, if it came to be at all: it is closed, as soon as Redis can be asked to."""
        self._abandoned[session] = app_key, gateway, epoch
        if self._closing is None or self._closing.done():
            self._closing = asyncio.get_running_loop().create_task(self._close_abandoned())

    def forget(self, app_key: str, gateway: bytes, session: str) -> None:
        """A Session was kicked: it is not brought back."""
        stored_id, user = session_parts(session)
        self._registry.drop((app_key, gateway), user, stored_id)

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
        """Wait for what is under way, and a moment for what can't be."""
        await self._feeds.aclose()
        for going in self._going.values():
            going.cancel()
        if self._closing is not None:
            await asyncio.wait([self._closing], timeout=CLOSING_LASTS_S)
            self._closing.cancel()
        for looking in list(self._looking.values()):
            looking.cancel()
            await asyncio.wait([looking])
        await self.batches.aclose()

    def _opening(
        self, by: Verified, gateway: bytes, epoch: int, kept: OpenSession, since_ms: int | None
    ) -> PendingResult[Opened]:
        held = by.app.key, gateway

        def read(reply: Sequence[bytes]) -> Opened:
            word = opened(reply)
            if word == "ok":
                self._registry.add(held, epoch, kept)
            return word

        return self.batches.submit(self.store.opening(opening_of(by, gateway, epoch, kept, since_ms)), read)

    async def _look_over(self, held: GatewayKey, epoch: int) -> None:
        try:
            await look_over(self.store, self._registry, held, epoch)
        except StoreUnavailable as away:
            _log.debug("what others closed is looked for later", problem=str(away))
        finally:
            del self._looking[held]

    def _doubt(self, held: GatewayKey) -> None:
        if held in self._server_ids:
            self._server_ids[held] = UNSURE

    def _gone(self, whole: tuple[GatewayKey, int]) -> None:
        del self._going[whole]
        held, epoch = whole
        self._registry.let_go(held, epoch)
        if not self._registry.knows(held):
            self._server_ids.pop(held, None)

    async def _close_abandoned(self) -> None:
        while self._abandoned:
            some = list(islice(self._abandoned.items(), MAX_CALLS_A_BATCH))
            try:
                closing = [self.close(*held_under, session, "lost") for session, held_under in some]
                for (session, _), pending in zip(some, closing, strict=True):
                    await pending.wait()
                    del self._abandoned[session]
            except Unavailable:
                await asyncio.sleep(CLOSE_AGAIN_S)
