"""What routers ask of Presence: ONLINE, SESSIONS, ROUTE.

Each is read from Redis, behind everything that came before it: a Session whose opening was answered is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gate.core.ids import check_user_ids, user_id
from gate.core.presence import Session
from gate.errors import InvalidInput
from gate.wire import replies
from gate.wire.client import Client
from gate.wire.table import Asking, PendingReply

# In one GATE.ONLINE: some 5 ms of Redis's time.
MAX_ONLINE_USERS = 10_000
USERS_A_SCRIPT = 1_000
# So many of one GATE.ONLINE count for one reply where what a connection waits for is bounded.
USERS_A_REPLY = 10


def online(client: Client, arguments: Sequence[bytes]) -> PendingReply:
    """`GATE.ONLINE user [user …]` → an array of 1 or 0, in order."""
    if len(arguments) > MAX_ONLINE_USERS:
        raise InvalidInput("users", f"at most {MAX_ONLINE_USERS} in one GATE.ONLINE, {len(arguments)} were sent")
    check_user_ids(arguments, "user")
    service, app_key = client.session_service(), client.app().app.key
    # A script for all would hold up every other command of Redis for 5 ms.
    pieces = [arguments[at : at + USERS_A_SCRIPT] for at in range(0, len(arguments), USERS_A_SCRIPT)]
    pending = [service.online(app_key, piece) for piece in pieces]

    def word() -> bytes:
        # The first failure is raised: no part of an answer is sent.
        return replies.yes_or_no([one for pending in pending for one in pending.result()])

    weight = 1 + len(arguments) // USERS_A_REPLY
    if len(pending) == 1:
        return PendingReply(pending[0].arrival, word, weight=weight)
    # All calls of a batch have the same future, which `gather` would cancel with itself.
    arrivals = [asyncio.shield(pending.arrival) for pending in pending]
    return PendingReply(asyncio.gather(*arrivals, return_exceptions=True), word, weight=weight)


def sessions(client: Client, arguments: Sequence[bytes]) -> PendingReply:
    """`GATE.SESSIONS user` → an array of maps: session, platform, gateway, since (ms)."""
    pending = client.session_service().presences(client.app().app.key, [user_id(arguments[0], "user")])

    def word() -> bytes:
        return replies.encode([_shown(one) for one in pending.result()[0].sessions], client.resp3)

    return PendingReply(pending.arrival, word)


def route(client: Client, arguments: Sequence[bytes]) -> bytes | PendingReply:
    """`GATE.ROUTE from to` → the Verdict's word, and where the recipient is: platform, Gateway, Session of each device."""
    return route_decided(client, arguments)()


def route_decided(client: Client, arguments: Sequence[bytes]) -> Asking:
    """The Verdict's part of it. A message that may not be sent has nowhere to go, so nothing is asked."""
    app = client.app_if_young()
    sender, recipient = arguments
    verdict = app.word(sender, recipient)
    # Counted here, as EXEC may ask Redis much later or not at all.
    client.worker.count([verdict])
    app_key = app.app.key

    def ask() -> bytes | PendingReply:
        if verdict != "allowed":
            return replies.encode([verdict, []], client.resp3)
        pending = client.session_service().presences(app_key, [user_id(recipient, "to")])

        def word() -> bytes:
            places: list[replies.Value] = [[one.platform, one.gateway, one.id] for one in pending.result()[0].sessions]
            return replies.encode([verdict, places], client.resp3)

        return PendingReply(pending.arrival, word)

    return ask


def _shown(session: Session) -> dict[str, replies.Value]:
    return {
        "session": session.id,
        "platform": session.platform,
        "gateway": session.gateway,
        "since": session.since_ms,
    }
