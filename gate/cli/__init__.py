"""The `gate` command: one file a noun, imported only when that noun is asked for, so that `gate --help` is quick.

A noun's file offers a function (one command) or a `typer.Typer` (a noun with verbs); a row in `COMMANDS` names it.
Commands raise `GateError` and print nothing of failures themselves: `main` turns each into one line and an exit status.

    0  done, allowed, found
    1  denied, not found, refused, or a start that failed
    2  wrong usage, all mistakes of the call at once
    3  the service, Redis or the Replica can't be reached

Called by the `gate` program and by `python -m gate`.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

from gate.errors import (
    GateError,
    InvalidInput,
    ReplicaForeign,
    ReplicaMissing,
    Stale,
    Unavailable,
)

EXIT_NO = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130
"""What a shell reports for a program that SIGINT ended."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""How the system says that a file can't grow."""


class Row(NamedTuple):
    """One command: the module that holds it, its name there, and what `gate --help` says of it."""

    module: str
    attribute: str
    summary: str


COMMANDS: dict[str, Row] = {
    "serve": Row("gate.cli.serve", "serve", "Run the service: the one command that a node needs."),
    "check": Row("gate.cli.check", "check", "May A message B? Exits 0 for yes, 1 for no."),
    "explain": Row("gate.cli.check", "explain", "Every rule with the facts it looked at."),
    "ban": Row("gate.cli.penalties", "ban", "Ban Users until a moment."),
    "unban": Row("gate.cli.penalties", "unban", "Lift the Bans of Users."),
    "bans": Row("gate.cli.penalties", "bans", "List who is banned."),
    "mute": Row("gate.cli.penalties", "mute", "Mute Users until a moment."),
    "unmute": Row("gate.cli.penalties", "unmute", "Lift the Mutes of Users."),
    "mutes": Row("gate.cli.penalties", "mutes", "List who is muted."),
    "blacklist": Row("gate.cli.lists", "blacklist", "Whose messages an owner refuses."),
    "whitelist": Row("gate.cli.lists", "whitelist", "Whose messages alone an owner accepts, and the switch."),
    "user": Row("gate.cli.users", "user", "Users: registration, profiles, Tokens, deletion."),
    "app": Row("gate.cli.apps", "app", "Apps: tenants, their secrets and settings."),
    "online": Row("gate.cli.online", "online", "Who is online, and how many. Exits 0 if all Users named are."),
    "sessions": Row("gate.cli.sessions", "sessions", "A User's Sessions: on what, and through which Gateway."),
    "kick": Row("gate.cli.sessions", "kick", "Close a User's Sessions."),
    "gateways": Row("gate.cli.gateways", "gateways", "Who holds client connections: leases, epochs, Sessions."),
    "events": Row("gate.cli.events", "events", "Who comes, goes and is kicked, as it happens."),
    "connect": Row("gate.cli.connect", "connect", "Be online as a User, over the WebSocket, and show what comes."),
    "audit": Row("gate.cli.audit", "audit", "Who did what to whom, when and why."),
    "webhooks": Row("gate.cli.webhooks", "webhooks", "Results that could not be delivered, and another try for them."),
    "operator": Row("gate.cli.operators", "operator", "Operators: who may administer, and as what."),
    "import": Row("gate.cli.importing", "import_facts", "Load facts from NDJSON or CSV files."),
    "export": Row("gate.cli.exporting", "export_facts", "Write an App's facts as NDJSON."),
    "replica": Row("gate.cli.replica", "replica", "This node's Replica: status, verify, rebuild."),
    "doctor": Row("gate.cli.doctor", "doctor", "Look for what is wrong here, and say what to do."),
}


class NounGroup(TyperGroup):
    """Finds commands in `COMMANDS` and imports only the one that is run; the help page needs no import at all."""

    _is_listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands, in the table's order."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return super().get_command(ctx, cmd_name)
        return _summary_only(cmd_name, row) if self._is_listing else _imported(cmd_name, row)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help page, from the table alone."""
        self._is_listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._is_listing = False


app = typer.Typer(
    name="gate",
    cls=NounGroup,
    help="May A message B? Runs the service, and asks and administers it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """May A message B? Runs the service, and asks and administers it."""


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # else a full disk is found out when nobody can say so any more
    except GateError as fault:
        for line in getattr(fault, "problems", None) or [str(fault)]:
            print(f"gate: {line}", file=sys.stderr)
        sys.exit(exit_status(fault))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # `gate bans | head`: the reader has seen enough
        _drop_output()
        sys.exit(EXIT_NO)
    except OSError as fault:
        if fault.errno not in NO_ROOM:
            raise
        _drop_output()
        print(f"gate: the output could not be written: {fault.strerror}", file=sys.stderr)
        sys.exit(EXIT_NO)


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_status(fault: GateError) -> int:
    """The exit status that a failure ends the program with."""
    if isinstance(fault, InvalidInput):
        return EXIT_USAGE
    if isinstance(fault, Unavailable | Stale | ReplicaMissing | ReplicaForeign):
        return EXIT_UNREACHABLE
    return EXIT_NO


def _imported(name: str, row: Row) -> Any:
    found = getattr(importlib.import_module(row.module), row.attribute)
    if isinstance(found, typer.Typer):
        command = get_command(found)
    else:
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name)(found)
        command = get_command(alone)
    command.name = name
    return command


def _summary_only(name: str, row: Row) -> Any:
    def stub() -> None: ...

    alone = typer.Typer(add_completion=False)
    alone.command(name, help=row.summary)(stub)
    return get_command(alone)
