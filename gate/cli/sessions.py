"""`gate sessions USER`, `gate kick USER` and `gate gateways`: on what a User is connected, closing that, and who holds it.

A kick closes Sessions wherever they are held; it is no Ban, and the User may connect again at once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gate.cli.command import Command, Listing, takes
from gate.cli.online import presence_document
from gate.cli.options import all_mistakes, given_id
from gate.cli.output import counted, json_id, print_json, print_table, say, shown_id
from gate.cli.remote import Remote, path_id
from gate.cli.store_connection import open_both, run
from gate.cli.time_format import shown_duration, shown_moment
from gate.clock import wall_ms
from gate.core.presence import Session, parse_platform, session_parts
from gate.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from gate.core.presence import Lease, UserPresence
    from gate.store.presence import PresenceStore


_User = Annotated[str, typer.Argument(metavar="USER", help="The User's id.")]


@takes("app", "redis", "presence_redis", afar=True)
def sessions(command: Command, user: _User) -> None:
    """Show a User's live Sessions, the oldest first. Exits 1 if there are none."""
    given = given_id(user, "USER")

    async def work(presence: PresenceStore, app_key: str) -> UserPresence:
        (found,) = await presence.presences(app_key, [given])
        return found

    def afar(remote: Remote) -> UserPresence:
        from gate.core.presence import UserPresence  # late: only from elsewhere

        shown = remote.get(f"/v1/users/{path_id(given)}/sessions")
        live = tuple(
            Session(
                one["session"], given, one["platform"], one["gateway"].encode(), 0, one["since_ms"], one["ip"], 0,
                one["active_ms"] or 0,
            )
            for one in shown["sessions"]
        )  # fmt: skip
        return UserPresence(live, shown["last_seen_ms"] or 0, shown["last_active_ms"] or 0)

    found = command.ask_presence(work, afar)
    if command.as_json:
        print_json({**presence_document(given, found), "sessions": [_document(one) for one in found.sessions]})
    elif found.sessions:
        columns = ("session", "platform", "Gateway", "since", "active", "address")
        print_table(columns, (_row(one) for one in found.sessions))
    else:
        seen = f"last seen {shown_moment(found.last_seen_ms)}" if found.last_seen_ms else "never seen"
        say(f"{shown_id(given)} is offline, {seen}")
    # As a question with two answers: a script need not read the table.
    raise typer.Exit(0 if found.sessions else 1)


@takes("app", "redis", "presence_redis", audited=True, afar=True)
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
            mistakes.take(lambda: parse_platform(os.fsencode(platform)), "")
        why, by = command.why_and_by(mistakes)
    # Before anything connects: without an App there is nothing to close.
    app_key = command.app_key()

    async def work() -> int:
        from gate.presence.kick_command import kick_user  # late, as all that talks to Redis
        from gate.store.writer import Attribution

        async with open_both(command, app_key) as (facts, presence):
            because = Attribution(by, why)
            return await kick_user(facts.audit, presence, app_key, given, because, session=session, platform=platform)

    def afar(remote: Remote) -> int:
        body = {"session": session, "platform": platform, "reason": why, "actor": by}
        closed: int = remote.send("POST", f"/v1/users/{path_id(given)}/kick", body)["closed"]
        return closed

    closed = command.afar(afar) if command.is_afar else run(work())
    lines = [f"{counted(closed, 'Session')} of {shown_id(given)} closed"] if closed else []
    command.print({"user": json_id(given), "closed": closed}, *lines)
    # The document is printed all the same: programs get 0, and the status says so too.
    if not closed:
        raise NotFound(f"{shown_id(given)} has no such Session")


@takes("app", "redis", "presence_redis", afar=True)
def gateways(command: Command) -> None:
    """List the App's Gateways: lease, epoch, age, Sessions. A lease that ended stays for a day, for its epoch."""

    async def work(presence: PresenceStore, app_key: str) -> list[dict[str, Any]]:
        # Leases first: a Gateway that comes in between has its row the next time.
        (leases,) = await presence.leases([app_key])
        sessions = (await presence.counts(app_key)).by_gateway()
        return [
            _lease_document(one, max(0, wall_ms() - one.renewed_at_ms), sessions.get(one.gateway, 0)) for one in leases
        ]

    rows = command.ask_presence(work, lambda remote: remote.get("/v1/gateways")["gateways"])
    listing: Listing[dict[str, Any]] = Listing(
        "gateways",
        dict,
        ("Gateway", "lease", "epoch", "renewed", "Sessions"),
        _lease_row,
        "no Gateway has taken a lease yet",
    )
    command.print_rows(listing, rows)


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


def _lease_row(one: dict[str, Any]) -> tuple[str, ...]:
    ago = f"{shown_duration(one['age_ms'])} ago"
    state, renewed = ("holds", ago) if one["holds"] else (f"ended {ago}", "")
    return one["gateway"], state, str(one["epoch"]), renewed, f"{one['sessions']:,}"


def _lease_document(lease: Lease, age_ms: int, sessions: int) -> dict[str, Any]:
    return {
        "gateway": lease.gateway.decode(),
        "epoch": lease.epoch,
        "holds": lease.holds,
        "age_ms": age_ms,
        "sessions": sessions,
    }
