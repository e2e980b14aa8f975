"""What routers ask of Presence: ONLINE, SESSIONS, ROUTE, EVENTS.

Each is read from Redis, behind everything that came before it: a Session whose opening was answered is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gate.core.ids import check_user_ids, shown, user_id
from gate.core.presence import Event, Session, cursor_told, gateway_named
from gate.errors import FeedReset, InvalidInput
from gate.wire import replies
from gate.wire.client import Client
from gate.wire.later import Later
from gate.wire.table import Asking

MAX_USERS = 10_000
"""In one GATE.ONLINE: some 5 ms of Redis's time."""
USERS_A_SCRIPT = 1_000
USERS_A_REPLY = 10
"""So many of one GATE.ONLINE count for one reply where what a connection waits for is bounded."""
EVENTS_A_PIECE = 100
"""Read and written at a time: 1.5 ms of a worker's time, between which others have their turns."""
MAX_EVENTS, DEFAULT_EVENTS = 1_000, 100
"""Entries of the feed that one GATE.EVENTS looks at; the latter unless told, but for a Gateway, which is told of few: by a
hundred at a time, one that asks fifty times a second falls behind in a storm, and ends up with RESET."""


def online(client: Client, arguments: Sequence[bytes]) -> Later:
    """`GATE.ONLINE user [user …]` → an array of 1 or 0, in order."""
    if len(arguments) > MAX_USERS:
        raise InvalidInput("users", f"at most {MAX_USERS} in one GATE.ONLINE, {len(arguments)} were sent")
    check_user_ids(arguments, "user")
    door, app_key = client.door(), client.app().app.key
    pieces = [arguments[at : at + USERS_A_SCRIPT] for at in range(0, len(arguments), USERS_A_SCRIPT)]
    tickets = [door.online(app_key, piece) for piece in pieces]

    def word() -> bytes:
        return replies.yes_or_no([one for ticket in tickets for one in ticket.result()])

    weight = 1 + len(arguments) // USERS_A_REPLY
    if len(tickets) == 1:
        return Later(tickets[0].arrival, word, weight=weight)
    arrivals = [asyncio.shield(ticket.arrival) for ticket in tickets]
    return Later(asyncio.gather(*arrivals, return_exceptions=True), word, weight=weight)


def sessions(client: Client, arguments: Sequence[bytes]) -> Later:
    """`GATE.SESSIONS user` → an array of maps: session, platform, gateway, since (ms)."""
    ticket = client.door().presences(client.app().app.key, [user_id(arguments[0], "user")])

    def word() -> bytes:
        return replies.encode([_shown(one) for one in ticket.result()[0].sessions], client.resp3)

    return Later(ticket.arrival, word)


def route(client: Client, arguments: Sequence[bytes]) -> bytes | Later:
    """`GATE.ROUTE from to` → the Verdict's word, and where the recipient is: platform, Gateway, Session of each device."""
    return route_decided(client, arguments)()


def route_decided(client: Client, arguments: Sequence[bytes]) -> Asking:
    """The Verdict's part of it. A message that may not be sent has nowhere to go, so nothing is asked."""
    app = client.app()
    client.worker.refuse_if_stale()
    sender, recipient = arguments
    verdict = app.word(sender, recipient)
    client.worker.count([verdict])
    app_key = app.app.key

    def ask() -> bytes | Later:
        if verdict != "allowed":
            return replies.encode([verdict, []], client.resp3)
        ticket = client.door().presences(app_key, [user_id(recipient, "to")])

        def word() -> bytes:
            places: list[replies.Value] = [[one.platform, one.gateway, one.id] for one in ticket.result()[0].sessions]
            return replies.encode([verdict, places], client.resp3)

        return Later(ticket.arrival, word)

    return ask


def events(client: Client, arguments: Sequence[bytes]) -> Later:
    """`GATE.EVENTS cursor|$ [COUNT n] [GATEWAY name]` → the next cursor, and what happened in between.

    With GATEWAY only kicks of that Gateway's Sessions. `$` gives the newest cursor and no events. A thousand events are
    long, so what follows on the connection waits.
    """
    most, gateway = _event_options(arguments[1:])
    door, app_key = client.door(), client.app().app.key
    feed = door.feed(app_key)
    after = None if arguments[0] == b"$" else cursor_told(arguments[0].decode("latin-1"))

    async def read() -> bytes:
        if after is None:
            return replies.encode([str(await feed.head()), []], client.resp3)
        cursor, looked_at, written = after, 0, list[bytes]()
        while looked_at < most:
            piece = min(EVENTS_A_PIECE, most - looked_at)
            try:
                found = await feed.read(cursor, piece)
            except FeedReset:
                if not looked_at:
                    raise
                break  # trimmed just now: the next call is refused
            for one in found:
                if one.kind == "kick":
                    door.forget(app_key, one.gateway, one.session)
                if gateway is None or (one.kind == "kick" and one.gateway == gateway):
                    written.append(replies.encode(_event_shown(one), client.resp3))
            cursor, looked_at = found[-1].cursor if found else cursor, looked_at + len(found)
            if len(found) < piece:
                break
        return b"".join(
            [replies.array_header(2), replies.bulk(str(cursor)), replies.array_header(len(written)), *written]
        )

    reading = asyncio.get_running_loop().create_task(read())
    reading.add_done_callback(asyncio.Task.exception)  # the peer may be gone by then
    return Later(reading, reading.result, holds_back=True)


def _event_options(options: Sequence[bytes]) -> tuple[int, bytes | None]:
    most: int | None = None
    gateway: bytes | None = None
    if len(options) % 2:
        raise InvalidInput("syntax", "expected GATE.EVENTS cursor|$ [COUNT n] [GATEWAY name]")
    for name, value in zip(options[::2], options[1::2], strict=True):
        if name.upper() == b"COUNT":
            if not value.isdigit() or len(value) > 4 or not 1 <= int(value) <= MAX_EVENTS:
                raise InvalidInput("COUNT", f"must be a whole number from 1 to {MAX_EVENTS}, got {shown(value[:40])!r}")
            most = int(value)
        elif name.upper() == b"GATEWAY":
            gateway = gateway_named(value)
        else:
            raise InvalidInput("syntax", f"expected COUNT or GATEWAY, got {shown(name[:40])!r}")
    return most or (DEFAULT_EVENTS if gateway is None else MAX_EVENTS), gateway


def _shown(session: Session) -> dict[str, replies.Value]:
    return {
        "session": session.id,
        "platform": session.platform,
        "gateway": session.gateway,
        "since": session.since_ms,
    }


def _event_shown(event: Event) -> dict[str, replies.Value]:
    return {
        "cursor": str(event.cursor),
        "kind": event.kind,
        "user": event.user,
        "session": event.session,
        "platform": event.platform,
        "gateway": event.gateway,
        "why": event.why,
        "at": event.at_ms,
    }
