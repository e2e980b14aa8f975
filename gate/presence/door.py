"""The door of Presence: leases are taken, Sessions opened, closed and brought back through it. One a process.

Whoever opens a Session has verified its Token on a Replica, and says up to which Change (`Verified`). The script that opens it
compares that with the Change for which the User's Sessions were last closed: if the Replica had not seen it, the answer is
`barred`, and the caller verifies again once its Replica has moved. So a Ban can't be overtaken by a connect.

Called by the RESP port's presence commands (by way of its Protocols) and by the hub.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gate.clock import wall_ms
from gate.core.presence import SESSION_RANDOM_BYTES, UserPresence, Verified, session_id, session_parts
from gate.errors import Unavailable
from gate.presence.batches import Batches, Ticket
from gate.presence.registry import Held, Kept, Registry
from gate.store.feed import Feed
from gate.store.presence import Closed, Leased, Opened, Opening, PresenceStore, closed, opened, presences_of

RESTORED_AT_ONCE = 500


Reverify = Callable[[str, bytes, int], Verified | None]
"""(App key, User, when its Token was minted): whether it may still be connected, and by which Change; None if not."""


class Attempt(NamedTuple):
    """A Session being opened: its id, and what comes of it."""

    session: str
    ticket: Ticket[Opened]


class Door:
    """Everything that a process asks of Presence. Calls raise `StoreUnavailable`."""

    def __init__(self, store: PresenceStore, lease_ttl_ms: int) -> None:
        self.store = store
        self.lease_ttl_ms = lease_ttl_ms
        self.batches = Batches(store.client)
        self._registry = Registry()
        self._server_ids: dict[Held, str] = {}
        self._abandoned: dict[Held, dict[str, int]] = {}

    # Leases

    async def lease(self, app_key: str, gateway: bytes, epoch: int | None, may_connect: Reverify) -> Leased:
        """Take or renew a lease. What Redis lost of the Sessions opened here under it is brought back first."""
        leased = await self.store.lease(app_key, gateway, epoch)
        held = app_key, gateway
        server_id, known_id = self.store.client.server_id, self._server_ids.get(held)
        if leased.holds:
            self._server_ids[held] = server_id
            if leased.is_new or (known_id is not None and known_id != server_id):
                await self._restore(held, leased.epoch, may_connect)
            self._registry.lease(held, leased.epoch)
            await self._close_abandoned(held)
        return leased

    def let_go(self, app_key: str, gateway: bytes, epoch: int) -> None:
        """Nobody renews this lease through here any more; it ends by itself."""
        self._registry.let_go((app_key, gateway), epoch)
        self._server_ids.pop((app_key, gateway), None)

    # Sessions

    def open(self, by: Verified, gateway: bytes, epoch: int, platform: str, ip: str) -> Attempt:
        """Open a Session. Where the ticket says anything but `ok`, there is none."""
        session = session_id(os.urandom(SESSION_RANDOM_BYTES), by.user)
        stored_id = session.partition(".")[0]
        kept = Kept(by.user, stored_id, platform, ip, by.minted_at_ms, wall_ms())
        held = by.app.key, gateway

        def read(reply: Sequence[bytes]) -> Opened:
            word = opened(reply)
            if word == "ok":
                self._registry.add(held, epoch, kept)
            return word

        call = self.store.opening(_opening(by, gateway, epoch, kept, None))
        return Attempt(session, self.batches.submit(call, read))

    def close(self, app_key: str, gateway: bytes, epoch: int, session: str, why: str) -> Ticket[Closed]:
        """Close a Session of this Gateway. Raises `InvalidInput` for what is no Session's id."""
        stored_id, user = session_parts(session)
        self._registry.drop((app_key, gateway), user, stored_id)
        call = self.store.closing(app_key, gateway, epoch, user, stored_id, why)
        return self.batches.submit(call, closed)

    def abandon(self, app_key: str, gateway: bytes, epoch: int, session: str) -> None:
        """Nobody knows of this Session, if it came to be at all: it is closed with the next renewal of its lease."""
        self._abandoned.setdefault((app_key, gateway), {})[session] = epoch

    def touch(self, app_key: str, sessions: Sequence[str]) -> Ticket[int]:
        """Note that these Sessions were active just now; gives how many there are."""
        parts = [session_parts(one) for one in sessions]
        return self.batches.submit(self.store.touching(app_key, [(user, stored) for stored, user in parts]), int)

    # Reads, behind everything submitted before

    def online(self, app_key: str, users: Sequence[bytes]) -> Ticket[list[bool]]:
        """Which of up to `MAX_USERS_A_SCRIPT` Users have a live Session."""
        return self.batches.submit(self.store.asking_online(app_key, users), lambda reply: [one == 1 for one in reply])

    def presences(self, app_key: str, users: Sequence[bytes]) -> Ticket[list[UserPresence]]:
        """The live Sessions of up to `MAX_USERS_A_SCRIPT` Users."""
        return self.batches.submit(self.store.asking_sessions(app_key, users), lambda reply: presences_of(users, reply))

    def feed(self, app_key: str) -> Feed:
        """What changes in an App; `aclose` it."""
        return Feed(self.store.client, app_key)

    async def aclose(self) -> None:
        """Wait for what is under way."""
        await self.batches.aclose()

    async def _close_abandoned(self, held: Held) -> None:
        sessions = self._abandoned.pop(held, {})
        try:
            for session, epoch in sessions.items():
                self.close(*held, epoch, session, "lost")
        except Unavailable:
            self._abandoned.setdefault(held, {}).update(sessions)  # closing one twice does no harm
        await asyncio.sleep(0)

    async def _restore(self, held: Held, epoch: int, may_connect: Reverify) -> None:
        lost = self._registry.sessions(held, epoch)
        for at in range(0, len(lost), RESTORED_AT_ONCE):
            calls = []
            for kept in lost[at : at + RESTORED_AT_ONCE]:
                by = may_connect(held[0], kept.user, kept.minted_at_ms)
                if by is None:
                    self._registry.drop(held, kept.user, kept.stored_id)
                else:
                    calls.append(self.store.opening(_opening(by, held[1], epoch, kept, kept.since_ms)))
            await self.store.client.write_each(calls)
            await asyncio.sleep(0)


def _opening(by: Verified, gateway: bytes, epoch: int, kept: Kept, since_ms: int | None) -> Opening:
    return Opening(
        by.app, gateway, epoch, by.user, kept.stored_id, kept.platform, kept.ip, kept.minted_at_ms,
        by.log_epoch, by.log_seq, since_ms,
    )  # fmt: skip
