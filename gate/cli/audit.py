"""`gate audit`: who did what to whom, when, until when and why, the latest first.

`--deployment` shows what was done to Apps and operators, and the facts that Redis lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

from gate.cli.command import Command, takes
from gate.cli.options import all_mistakes, given_id
from gate.cli.output import counted, print_json, print_table, say, shown_id
from gate.cli.paging import LimitOption, cut_at
from gate.cli.time_format import parse_moment, shown_moment
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput

if TYPE_CHECKING:
    from gate.cli.store_connection import StoreConnection
    from gate.core.model import AppFacts
    from gate.store.audit import AuditEntry, DeploymentEntry

PAGE_ROWS = 1_000
MAX_SHOWN_MEMBERS = 5

AUDIT_COLUMNS = ("when", "what", "user", "of what", "by", "actor", "reason")

T = TypeVar("T")

_From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="From then on: ms, or 2030-01-31T18:00:00Z.")]
_To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before then.")]


@takes("app", "redis")
def audit(
    command: Command,
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="Of this User only.")] = None,
    deployment: Annotated[
        bool, typer.Option("--deployment", help="What was done to Apps and operators, whatever --app says.")
    ] = False,
    since: _From = None,
    until: _To = None,
    limit: LimitOption = 100,
) -> None:
    """Show who did what to whom, and why."""
    with all_mistakes() as mistakes:
        given = None if user is None else mistakes.take(lambda: given_id(user, "--user"), b"")
        from_ms = 0 if since is None else mistakes.take(lambda: parse_moment(since, "--from"), 0)
        to_ms = FOREVER_MS if until is None else mistakes.take(lambda: parse_moment(until, "--to"), 0)
        if deployment and user is not None:
            mistakes.add(InvalidInput("--user", "does not go with --deployment"))
    if deployment:
        _show_deployment(command, from_ms, to_ms, limit)
        return

    async def work(connection: StoreConnection, app: AppFacts) -> list[AuditEntry]:
        page = partial(connection.store.audit.page, app.key, user=given, from_ms=from_ms, to_ms=to_ms)
        return await _up_to(limit, page)

    found, is_cut = cut_at(limit, command.ask_app(work))
    if command.as_json:
        # Late: a table needs nothing of HTTP.
        import msgspec

        from gate.http.v1.audit import audit_line

        print_json({"entries": [msgspec.to_builtins(audit_line(entry)) for entry in found]} | is_cut)
    elif found:
        print_table(AUDIT_COLUMNS, (audit_row(entry) for entry in found))
    else:
        say("nothing was done")


def _show_deployment(command: Command, from_ms: int, to_ms: int, limit: int) -> None:
    async def work(connection: StoreConnection) -> list[DeploymentEntry]:
        return await _up_to(limit, partial(connection.store.audit.deployment_page, from_ms=from_ms, to_ms=to_ms))

    found, is_cut = cut_at(limit, command.ask(work))
    if command.as_json:
        # Late: a table needs nothing of HTTP.
        import msgspec

        from gate.http.v1.audit import deployment_audit_line

        print_json({"entries": [msgspec.to_builtins(deployment_audit_line(entry)) for entry in found]} | is_cut)
    elif found:
        rows = (
            (
                shown_moment(one.at_ms),
                one.kind,
                one.about,
                one.value.decode(),
                *_who(one),
            )
            for one in found
        )
        print_table(("when", "what", "App or operator", "changed", "by", "actor", "reason"), rows)
    else:
        say("nothing was done")


async def _up_to(limit: int, read: Callable[..., Awaitable[tuple[list[T], str | None]]]) -> list[T]:
    """Read pages until there are more entries than the limit, or until the last page."""
    found: list[T] = []
    cursor: str | None = None
    while len(found) <= limit:
        page, cursor = await read(count=min(PAGE_ROWS, limit + 1 - len(found)), cursor=cursor)
        found += page
        if cursor is None:
            break
    return found


def _who(entry: AuditEntry | DeploymentEntry) -> tuple[str, str, str]:
    """Who did it and from where, the actor, and the reason."""
    kind, name, _, address = entry.origin
    where = f" at {address}" if address else ""
    return f"{kind} {_shown_text(name)}".strip() + where, _shown_text(entry.by), _shown_text(entry.why)


def _shown_text(text: str) -> str:
    return shown_id(text.encode())


def _kicked(value: bytes) -> str:
    """The number of Sessions, and the Session or platform that the kick was limited to."""
    kick = orjson.loads(value)
    words = [counted(kick["closed"], "Session") if "closed" in kick else "Sessions"]
    words += [kick[name] for name in ("session", "platform") if name in kick]
    return " ".join(words)


def audit_row(entry: AuditEntry) -> tuple[str, ...]:
    """One entry in a table of `AUDIT_COLUMNS`."""
    what = [", ".join(shown_id(member) for member in entry.members[:MAX_SHOWN_MEMBERS])] if entry.members else []
    if len(entry.members) > MAX_SHOWN_MEMBERS:
        what.append(f"and {len(entry.members) - MAX_SHOWN_MEMBERS} more")
    if entry.until_ms:
        what.append("without end" if entry.until_ms >= FOREVER_MS else f"until {shown_moment(entry.until_ms)}")
    if entry.kind in ("kick-ordered", "kicked"):
        what.append(_kicked(entry.value))
    elif entry.kind == "facts-lost":
        what.append(counted(orjson.loads(entry.value)["lost"], "fact"))
    elif entry.value not in (b"", b"{}") and entry.kind != "user-erased":
        what.append(shown_id(entry.value))
    return (
        shown_moment(entry.at_ms),
        entry.kind,
        shown_id(entry.user),
        " ".join(what),
        *_who(entry),
    )
