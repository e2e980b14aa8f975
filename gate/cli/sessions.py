"""`gate sessions USER` and `gate kick USER`: on what a User is connected, and putting it out.

A kick closes Sessions wherever they are held; it is no Ban, and the User may connect again at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli.moments import shown_moment
from gate.cli.online import presence_document
from gate.cli.options import (
    DEFAULT_DATA,
    AppOption,
    DataOption,
    JsonOption,
    PresenceRedisOption,
    RedisOption,
    Target,
    all_mistakes,
    given_id,
)
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id
from gate.cli.presence_reach import ask_presence
from gate.core.presence import CloseReason, Session, platform_named, session_parts
from gate.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from gate.core.presence import UserPresence
    from gate.store.presence import PresenceStore

KICKED: CloseReason = "kicked"

_User = Annotated[str, typer.Argument(metavar="USER", help="The User's id.")]


def sessions(
    user: _User,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    presence_redis: PresenceRedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a User's live Sessions, the oldest first. Exits 1 if there are none."""
    given = given_id(user, "USER")

    async def work(presence: PresenceStore, app_key: str) -> UserPresence:
        (found,) = await presence.presences(app_key, [given])
        return found

    found = ask_presence(Target(data, app, redis, presence_redis), work)
    if as_json:
        print_json({**presence_document(given, found), "sessions": [_document(one) for one in found.sessions]})
    elif found.sessions:
        columns = ("session", "platform", "Gateway", "since", "active", "address")
        print_table(columns, (_row(one) for one in found.sessions))
    else:
        seen = f"last seen {shown_moment(found.last_seen_ms)}" if found.last_seen_ms else "never seen"
        say(f"{shown_id(given)} is offline, {seen}")
    raise typer.Exit(0 if found.sessions else 1)


def kick(
    user: _User,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="This Session only.")] = None,
    platform: Annotated[str | None, typer.Option("--platform", metavar="NAME", help="Of this platform only.")] = None,
    data: DataOption = DEFAULT_DATA,
    app: AppOption = None,
    redis: RedisOption = None,
    presence_redis: PresenceRedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close a User's Sessions, wherever they are held. Exits 1 if there were none."""
    with all_mistakes() as mistakes:
        given = mistakes.take(lambda: given_id(user, "USER"), b"")
        stored_id = mistakes.take(lambda: _own(given, session), "")
        named = "" if platform is None else mistakes.take(lambda: platform_named(platform.encode()), "")

    async def work(presence: PresenceStore, app_key: str) -> int:
        return await presence.kick(app_key, [given], KICKED, stored_id=stored_id, platform=named)

    closed = ask_presence(Target(data, app, redis, presence_redis), work)
    if as_json:
        print_json({"user": json_id(given), "closed": closed})
    elif closed:
        say(f"{counted(closed, 'Session')} of {shown_id(given)} closed")
    if not closed:
        raise NotFound(f"{shown_id(given)} has no such Session")


def _own(user: bytes, session: str | None) -> str:
    """What is stored of the id of this User's Session; "" for none named."""
    if session is None:
        return ""
    stored_id, whose = session_parts(session)
    if user and whose != user:
        raise InvalidInput("session", f"is of {shown_id(whose)}")
    return stored_id


def _row(one: Session) -> tuple[str, ...]:
    active = shown_moment(one.active_ms) if one.active_ms else ""
    return one.id, one.platform, one.gateway.decode(), shown_moment(one.since_ms), active, one.ip


def _document(one: Session) -> dict[str, object]:
    return {
        "session": one.id,
        "platform": one.platform,
        "gateway": one.gateway.decode(),
        "since_ms": one.since_ms,
        "active_ms": one.active_ms or None,
        "ip": one.ip,
    }
