"""`gate sessions USER` and `gate kick USER`: on what a User is connected, and putting it out.

A kick closes Sessions wherever they are held; it is no Ban, and the User may connect again at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli.command import Command, takes
from gate.cli.online import presence_document
from gate.cli.options import all_mistakes, given_id
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id
from gate.cli.presence_connection import open_both
from gate.cli.store_connection import run
from gate.cli.time_format import shown_moment
from gate.core.presence import Session, parse_platform, session_parts
from gate.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from gate.core.presence import UserPresence
    from gate.store.presence import PresenceStore

_User = Annotated[str, typer.Argument(metavar="USER", help="The User's id.")]


@takes("app", "redis", "presence_redis")
def sessions(command: Command, user: _User) -> None:
    """Show a User's live Sessions, the oldest first. Exits 1 if there are none."""
    given = given_id(user, "USER")

    async def work(presence: PresenceStore, app_key: str) -> UserPresence:
        (found,) = await presence.presences(app_key, [given])
        return found

    found = command.ask_presence(work)
    if command.as_json:
        print_json({**presence_document(given, found), "sessions": [_document(one) for one in found.sessions]})
    elif found.sessions:
        columns = ("session", "platform", "Gateway", "since", "active", "address")
        print_table(columns, (_row(one) for one in found.sessions))
    else:
        seen = f"last seen {shown_moment(found.last_seen_ms)}" if found.last_seen_ms else "never seen"
        say(f"{shown_id(given)} is offline, {seen}")
    raise typer.Exit(0 if found.sessions else 1)


@takes("app", "redis", "presence_redis", audited=True)
def kick(
    command: Command,
    user: _User,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="This Session only.")] = None,
    platform: Annotated[str | None, typer.Option("--platform", metavar="NAME", help="Of this platform only.")] = None,
) -> None:
    """Close a User's Sessions, wherever they are held. Exits 1 if there were none."""
    with all_mistakes() as mistakes:
        given = mistakes.take(lambda: given_id(user, "USER"), b"")
        mistakes.take(lambda: _refuse_foreign(given, session), None)
        if platform is not None:
            mistakes.take(lambda: parse_platform(platform.encode()), "")
        why, by = command.why_and_by(mistakes)
    app_key = command.app_key()

    async def work() -> int:
        from gate.presence.kick_command import kick_user  # late, as all that talks to Redis
        from gate.store.writer import Attribution

        async with open_both(command, app_key) as (facts, presence):
            because = Attribution(by, why)
            return await kick_user(facts.audit, presence, app_key, given, because, session=session, platform=platform)

    closed = run(work())
    lines = [f"{counted(closed, 'Session')} of {shown_id(given)} closed"] if closed else []
    command.print({"user": json_id(given), "closed": closed}, *lines)
    if not closed:
        raise NotFound(f"{shown_id(given)} has no such Session")


def _refuse_foreign(user: bytes, session: str | None) -> None:
    """Raise `InvalidInput` for what is no Session's id, or one of another User."""
    if session is None:
        return
    _, whose = session_parts(session)
    if user and whose != user:
        raise InvalidInput("session", f"is of {shown_id(whose)}")


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
