"""Repair a Gateway's Sessions after Redis lost writes: reopen those that are missing, close again those that came back.

After Redis came back from an older file or from none, some of what was done through this process may be missing. A Session that
is open here and missing there is opened again if its User may still be connected, and if the feed does not name it as kicked.
What was closed lately is closed again. Each of these steps may be repeated without harm.

The other way round, what others closed, by a kick or through another process, must not be brought back later. So the open
Sessions are looked over, some of them with each renewal, and what Redis does not have is forgotten.

Called by `session_service`: `recover` before a lease is answered, `look_over` after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import structlog

from gate.core.closing import REASON_OF_FAULT
from gate.core.sessions import OpenOutcome, OpenSession
from gate.errors import FeedReset, FeedUnreadable, TokenRefused
from gate.presence.gateway import Gateway
from gate.replica.authorization import Admission
from gate.store.feed import Feed, behind
from gate.store.presence import PresenceStore, opened

# Each User is looked up on the Replica: some 2 ms, in which no check is answered.
RECOVERED_AT_ONCE = 200
EVENTS_A_READ = 1_000

_log = structlog.get_logger()

T = TypeVar("T")


async def recover(store: PresenceStore, gateway: Gateway, admission: Admission) -> None:
    """All of one Gateway. Raises `StoreUnavailable`: then it has to be done again."""
    missing = await _missing(store, gateway.app_key, list(gateway.sessions.values()))
    kicked = await _kicked(store, gateway) if missing else set()
    for some in _pieces(missing):
        await _open_again(store, gateway, [one for one in some if one.id not in kicked], admission)
    for one in missing:
        if one.id in kicked:
            gateway.forget(one.id)
    await _close_again(store, gateway)


async def look_over(store: PresenceStore, gateway: Gateway) -> None:
    """Forget some of what was closed by others. Raises `StoreUnavailable`: then the next look finds it."""
    server_id = store.client.server_id
    for some in _pieces(gateway.some_sessions()):
        if gone := await _missing(store, gateway.app_key, some):
            # If the lease was lost too, Redis lost these Sessions: the next renewal brings them back.
            if not await store.lease_holds(*gateway.key, gateway.epoch) or store.client.server_id != server_id:
                return
            for one in gone:
                gateway.forget(one.id)


async def _open_again(
    store: PresenceStore, gateway: Gateway, lost: Sequence[OpenSession], admission: Admission
) -> None:
    tried = list[OpenSession]()
    for session in lost:
        if session.id not in gateway.sessions:
            continue  # its client left while others were looked up
        try:
            session.verify(admission.authorize_stay(session))
            tried.append(session)
        except TokenRefused as refused:
            gateway.lose(session.id, REASON_OF_FAULT[refused.fault])
    replies = await store.exchange(*map(store.opening, tried))
    for session, reply in zip(tried, replies, strict=True):
        outcome = opened(reply)
        if outcome in (OpenOutcome.BARRED, OpenOutcome.FULL):
            gateway.lose(session.id, "lost")
        elif outcome is OpenOutcome.OK and session.id not in gateway.sessions:
            gateway.abandon(session.id)  # its client left meanwhile: that close may have come before


async def _close_again(store: PresenceStore, gateway: Gateway) -> None:
    for some in _pieces(gateway.closed_lately()):
        await store.exchange(
            *(store.closing(*gateway.key, gateway.epoch, user, stored_id, "closed") for user, stored_id in some)
        )


async def _missing(store: PresenceStore, app_key: str, sessions: Sequence[OpenSession]) -> list[OpenSession]:
    missing = list[OpenSession]()
    for some in _pieces(sessions):
        users = list(dict.fromkeys(session.user for session in some))  # each once: the answer has all Sessions of each
        there = {one.id for found in await store.presences(app_key, users) for one in found.sessions}
        missing += [session for session in some if session.id not in there]
    return missing


async def _kicked(store: PresenceStore, gateway: Gateway) -> set[str]:
    """Ids of this Gateway's Sessions that were kicked, as far back as the feed goes."""
    feed, kicked = Feed(store.client, gateway.app_key), set[str]()
    after = await feed.oldest()
    while True:
        try:
            found = await feed.read(after, EVENTS_A_READ)
        except FeedUnreadable as unread:
            _log.error(
                "kicks in an unreadable part of the feed are not known", app=gateway.app_key, problem=str(unread)
            )
            after = behind(unread, after)
            continue
        except FeedReset:
            return kicked  # it is trimmed faster than it is read, or was lost meanwhile: no more can be known
        if not found:
            return kicked
        kicked |= {one.session for one in found if one.kind == "kick" and one.gateway == gateway.name}
        after = found[-1].cursor
        await asyncio.sleep(0)


def _pieces(sessions: Sequence[T]) -> list[Sequence[T]]:
    return [sessions[at : at + RECOVERED_AT_ONCE] for at in range(0, len(sessions), RECOVERED_AT_ONCE)]
