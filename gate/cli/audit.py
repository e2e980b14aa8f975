"""`gate audit`: who did what to whom, when, until when and why, the latest first.

`--deployment` shows what was done to Apps and operators, and the facts that Redis lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer

from gate.cli.command import Command, LimitOption, cut_at, takes
from gate.cli.options import all_mistakes, given_id
from gate.cli.output import counted, print_json, print_table, say, shown_id
from gate.cli.remote import Remote, raw_id, read_moment
from gate.cli.time_format import parse_moment, shown_moment
from gate.core.model import FOREVER_MS
from gate.errors import InvalidInput

if TYPE_CHECKING:
    from gate.cli.store_connection import StoreConnection
    from gate.core.model import AppFacts
    from gate.store.audit import AuditEntry, DeploymentEntry
    from gate.store.writer import Origin

PAGE_ROWS = 1_000
MAX_SHOWN_MEMBERS = 5

AUDIT_COLUMNS = ("when", "what", "user", "of what", "by", "actor", "reason")

_OF_EVERY_LINE = {
    "at",
    "what",
    "user",
    "members",
    "until",
    "actor",
    "reason",
    "by",
    "on_behalf_of",
    "request_id",
    "address",
}

T = TypeVar("T")

_From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="From then on: ms, or 2030-01-31T18:00:00Z.")]
_To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before then.")]


@takes("app", "redis", afar=True)
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
        # The deployment's audit has no Users: an empty answer would read as `nothing was done`.
        if deployment and user is not None:
            mistakes.add(InvalidInput("--user", "does not go with --deployment"))
    if deployment:
        _show_deployment(command, from_ms, to_ms, limit)
        return

    async def work(connection: StoreConnection, app: AppFacts) -> list[AuditEntry]:
        page = partial(connection.store.audit.page, app.key, user=given, from_ms=from_ms, to_ms=to_ms)
        return await _up_to(limit, page)

    def afar(remote: Remote) -> list[AuditEntry]:
        moments = {"from": from_ms, "to": to_ms}
        rows = remote.pages("/v1/audit", "entries", limit, "cursor", user=given, **moments)
        return [_entry_of(one) for one in rows]

    found, is_cut = cut_at(limit, command.ask_app(work, afar))
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

    def afar(remote: Remote) -> list[DeploymentEntry]:
        from gate.store.audit import DeploymentEntry  # late: only from elsewhere

        moments = {"from": from_ms, "to": to_ms}
        rows = remote.pages("/v1/deployment-audit", "entries", limit, "cursor", **moments)
        return [
            DeploymentEntry(
                one["at"], one["what"], one["about"], orjson.dumps(one["changed"]), one["actor"], one["reason"],
                _origin_of(one),
            )
            for one in rows
        ]  # fmt: skip

    found, is_cut = cut_at(limit, command.ask(work, afar))
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


def _entry_of(line: Mapping[str, Any]) -> AuditEntry:
    """The entry that has this line: the inverse of `gate.http.v1.audit.audit_line`."""
    from gate.store.audit import NOTED, AuditEntry  # late: only from elsewhere

    what = line["what"]
    value = b""
    if what == "app-set":
        # Back to the stored form, so that one function makes the rows of both ways.
        value = orjson.dumps(line["settings"])
    elif what == "whitelist-switched":
        value = b"1" if line["on"] else b"0"
    elif what == "tokens-revoked":
        value = str(line["before"]).encode()
    elif what in NOTED:
        value = orjson.dumps({name: one for name, one in line.items() if name not in _OF_EVERY_LINE})
    # Absent is no end at all, null is without end.
    until_ms = read_moment(line["until"]) if "until" in line else 0
    members = tuple(raw_id(one) for one in line.get("members", ()))
    user = raw_id(line.get("user", ""))
    return AuditEntry(
        line["at"], 0, 0, what, user, members, until_ms, value, line["actor"], line["reason"], _origin_of(line)
    )


def _origin_of(line: Mapping[str, Any]) -> Origin:
    from gate.store.writer import Origin  # late, as above

    by = line["by"]
    return Origin(by["kind"], by["name"], line.get("request_id", ""), line.get("address", ""))


async def _up_to(limit: int, read: Callable[..., Awaitable[tuple[list[T], str | None]]]) -> list[T]:
    """Read pages until there are more entries than the limit, or until the last page."""
    found: list[T] = []
    cursor: str | None = None
    # One more than the limit: whether the list is cut.
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
    # Kinds with words of their own first; of any other the stored value is shown.
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
