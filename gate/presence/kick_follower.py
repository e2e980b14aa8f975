"""Follows an App's feed and disconnects the clients of this process whose Sessions were kicked.

If the feed was reset, kicks may have been missed: every client without a Session is disconnected then. After a kick the Session
is closed once more (`AppLease.disconnect`): that costs a script, and makes sure that none is left that was being brought back.

Called by `local_gateway`, a task for each lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from gate.core.closing import REASON_OF_FAULT
from gate.core.presence import CloseReason, Cursor, Event
from gate.errors import FeedReset, TokenRefused, Unavailable

if TYPE_CHECKING:
    from gate.presence.local_gateway import AppLease, LocalSession

# After Redis was unreachable.
RETRY_S = 0.25
# Sessions that are looked up or touched in one step: some ms in which nothing else has a turn.
AT_ONCE = 200


async def follow_kicks(lease: AppLease, after: Cursor) -> None:
    """Disconnect the clients that the feed's kicks name, behind this place, for ever."""
    while True:
        try:
            # Closed at once, not by the collector: a follower that is left open keeps the shared read going.
            async with aclosing(lease.feeds.follow(lease.app_key, after)) as parts:
                async for events in parts:
                    for one in events:
                        _on_event(lease, one)
                    after = events[-1].cursor
            return  # this process ends
        except FeedReset:
            after = await _found_again(lease)


def _on_event(lease: AppLease, event: Event) -> None:
    if event.kind == "kick" and event.gateway == lease.name and (session := lease.sessions.get(event.session)):
        lease.disconnect(session, _reason(event.why))


async def _found_again(lease: AppLease) -> Cursor:
    """After kicks may have been missed: disconnect the clients that have no Session; where to follow on from."""
    while True:
        try:
            # Before the look at Sessions: what is kicked during it is behind this place.
            cursor = await lease.feeds.head(lease.app_key)
            # Before the look, too: Sessions that Redis lost are brought back by this, and must not count as kicked.
            await lease.renew(lease.gateway)
            # One whose open is under way may be in Redis or not: its own answer decides.
            sessions = [one for one in lease.sessions.values() if one.is_open]
            for at in range(0, len(sessions), AT_ONCE):
                await _disconnect_without_session(lease, sessions[at : at + AT_ONCE])
            return cursor
        except Unavailable:
            await asyncio.sleep(RETRY_S)


async def _disconnect_without_session(lease: AppLease, sessions: Sequence[LocalSession]) -> None:
    found = await lease.service.presences(lease.app_key, [one.user for one in sessions]).wait()
    there = {session.id for one in found for session in one.sessions}
    for session in sessions:
        if session.id not in there:
            try:
                # The kick itself is gone: the reason is found again from the facts.
                lease.admission.authorize_stay(session)
                why: CloseReason = "lost"
            except TokenRefused as refused:
                why = REASON_OF_FAULT[refused.fault]
            lease.disconnect(session, why)


def _reason(why: str) -> CloseReason:
    """The reason that a kick gives; one that this version does not know counts as `kicked`."""
    reasons: dict[str, CloseReason] = {
        one: one for one in ("banned", "deactivated", "token-revoked", "replaced", "app-removed", "lost")
    }
    return reasons.get(why, "kicked")
